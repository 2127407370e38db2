"""Every error this project raises on purpose.

    EdgeClsError
    ├── ArtifactError                  a model file
    │   ├── ArtifactNotFoundError        there is no such file            (FileNotFoundError)
    │   ├── CorruptArtifactError         truncated, stripped, tampered    (ValueError)
    │   ├── UnsupportedArtifactError     not a classifier, newer schema   (ValueError)
    │   ├── SelfTestError                its golden self-test disagrees   (ValueError)
    │   └── UndescribedArtifactError     labels or range unknown: ask     (ValueError)
    ├── EngineError                    what runs a model
    │   ├── UnknownBackendError          no backend has this name         (ValueError)
    │   ├── WrongBackendError            it runs files of another kind    (ValueError)
    │   ├── EngineNotInstalledError      the package is missing           (ImportError)
    │   ├── DelegateError                the accelerator is missing       (OSError)
    │   └── ConcurrentUseError           two threads, one classifier      (RuntimeError)
    ├── SourceError                    where pictures come from
    │   ├── SourceSpecError              no source is written so          (ValueError)
    │   ├── SourceNotFoundError          nothing there                    (FileNotFoundError)
    │   │   └── CameraNotFoundError        no camera, or nothing drives it
    │   ├── SourceLostError              was there, is gone               (ConnectionError)
    │   ├── NoFrameYetError              nothing new for now, ask again   (TimeoutError)
    │   ├── UnreadableImageError         one picture cannot be decoded    (ValueError)
    │   └── FrameError                   an array that is no picture      (ValueError)
    ├── SinkError                      where results go
    │   ├── SinkSpecError                no sink is written so            (ValueError)
    │   ├── SinkNotInstalledError        the package is missing           (ImportError)
    │   ├── SpoolInUseError              another process has it open      (RuntimeError)
    │   ├── IdentityInUseError           another run publishes as this one (RuntimeError)
    │   ├── DeliveryError                not now; the spool tries again   (ConnectionError)
    │   └── WriteError                   disk full, no permission         (OSError)
    ├── UnsupportedSystemError         it takes Linux, and this is another system (NotImplementedError)
    ├── BenchmarkError                 measuring
    │   └── BaselineError                not a stored result to compare with (ValueError)
    ├── ServiceError                   the systemd unit
    │   ├── UnitTextError                a text that no unit file can say (ValueError)
    │   ├── UnitAccessError              not root, or a file that it may not read (PermissionError)
    │   ├── UnitNotFoundError            not installed, or not by us      (FileNotFoundError)
    │   ├── SystemdNotFoundError         no systemd runs this machine     (FileNotFoundError)
    │   └── SystemctlError               systemctl refuses                (OSError)
    └── HostToolsError                 training, conversion, validation
        ├── MissingExtraError            pip install 'edgecls[...]'       (ImportError)
        ├── DownloadError                no answer, too slow, cut short   (OSError)
        ├── RecipeError                  a recipe or a --set              (ValueError)
        ├── DatasetError                 a folder of pictures             (ValueError)
        ├── TrainingError                NaN loss, no such run            (RuntimeError)
        ├── FolderInUseError             another process writes there     (RuntimeError)
        ├── ConversionError              a model that will not convert    (ValueError)
        ├── ValidationError              things that cannot be compared   (ValueError)
        └── ExplanationError             a model without what a map needs (ValueError)

A leaf also inherits the built-in that a Python programmer would catch. A message says what was
received, what was expected, and what to type next.
"""


class EdgeClsError(Exception):
    """The root: ``except EdgeClsError`` catches whatever a user can put right."""


class ArtifactError(EdgeClsError):
    """Something about a model file."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """There is no model file at that path."""


class CorruptArtifactError(ArtifactError, ValueError):
    """The file is damaged: truncated, stripped of its appended files, or altered."""


class UnsupportedArtifactError(ArtifactError, ValueError):
    """The file is sound, but it is not an image classifier this version can run."""


class SelfTestError(ArtifactError, ValueError):
    """The model runs, but answers its own golden self-test differently than when it was made."""


class UndescribedArtifactError(ArtifactError, ValueError):
    """A foreign model leaves something open (labels, input range) that must be given."""


class EngineError(EdgeClsError):
    """Something about the inference engine."""


class UnknownBackendError(EngineError, ValueError):
    """No backend has the name that was asked for."""


class WrongBackendError(EngineError, ValueError):
    """A backend was asked to run a file that only another one can: ``.tflite`` or ``.onnx``."""


class EngineNotInstalledError(EngineError, ImportError):
    """The package behind a backend is not installed."""


class DelegateError(EngineError, OSError):
    """An accelerator was asked for (or is needed by the model) and is not there."""


class ConcurrentUseError(EngineError, RuntimeError):
    """A classifier was used by two threads at the same time."""


class SourceError(EdgeClsError):
    """Something about where pictures come from."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The folder, file or camera is not there."""


class SourceSpecError(SourceError, ValueError):
    """A text that names no source: an unknown kind, scheme or option."""


class CameraNotFoundError(SourceNotFoundError):
    """There is no such camera, it is busy or forbidden, or the package that drives it is missing."""


class SourceLostError(SourceError, ConnectionError):
    """A source that had delivered frames is gone."""


class NoFrameYetError(SourceError, TimeoutError):
    """A live source has nothing new for now; the next ``read()`` goes on."""


class UnreadableImageError(SourceError, ValueError):
    """One picture cannot be decoded; the next one may well be.

    Attributes:
        name: of the picture, as in ``Frame.name``.
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class FrameError(SourceError, ValueError):
    """An array or a frame that cannot be a picture: wrong dtype, shape or format."""


class SinkError(EdgeClsError):
    """Something about where results go."""


class SinkSpecError(SinkError, ValueError):
    """A text or a number that describes no sink: an unknown scheme or option, a password in a URL."""


class SinkNotInstalledError(SinkError, ImportError):
    """The package behind a sink is not installed."""


class SpoolInUseError(SinkError, RuntimeError):
    """A spool belongs to one process at a time."""


class IdentityInUseError(SinkError, RuntimeError):
    """Another run of this machine publishes under the same topic or name."""


class DeliveryError(SinkError, ConnectionError):
    """A sender could deliver nothing for now; whoever holds the records tries again later.

    Attributes:
        wait_s: how long the receiver asked to be left alone, in seconds; 0: it did not say.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class WriteError(SinkError, OSError):
    """A file could not be written; nothing half-written remains."""


class UnsupportedSystemError(EdgeClsError, NotImplementedError):
    """What was asked for takes Linux, and this is another system."""


class BenchmarkError(EdgeClsError):
    """A measurement that cannot be made, such as one without pictures."""


class BaselineError(BenchmarkError, ValueError):
    """A stored benchmark that cannot be read, or cannot be compared with this one."""


class ServiceError(EdgeClsError):
    """Something about the systemd unit."""


class UnitTextError(ServiceError, ValueError):
    """A name, a path or a word that cannot stand in a unit file."""


class UnitAccessError(ServiceError, PermissionError):
    """Whoever asks may not install units, or the unit's user could not read what it needs."""


class UnitNotFoundError(ServiceError, FileNotFoundError):
    """There is no unit of that name, or it is not ours."""


class SystemdNotFoundError(ServiceError, FileNotFoundError):
    """There is no ``systemctl``, or systemd did not start this machine."""


class SystemctlError(ServiceError, OSError):
    """``systemctl`` refuses to do something, or does not end."""


class HostToolsError(EdgeClsError):
    """Something about training, conversion or validation."""


class MissingExtraError(HostToolsError, ImportError):
    """A command needs an optional part of the installation."""


class DownloadError(HostToolsError, OSError):
    """A file could not be had from the network within its limits."""


class RecipeError(HostToolsError, ValueError):
    """A recipe, or an override of one, is not valid."""


class DatasetError(HostToolsError, ValueError):
    """A data set cannot be used as it is."""


class TrainingError(HostToolsError, RuntimeError):
    """Training cannot start or go on."""


class FolderInUseError(HostToolsError, RuntimeError):
    """Another process writes into a folder that a command needs for itself."""


class ConversionError(HostToolsError, ValueError):
    """A model cannot be converted."""


class ValidationError(HostToolsError, ValueError):
    """A reference and an artifact that cannot be compared."""


class ExplanationError(HostToolsError, ValueError):
    """A method that a model cannot be explained with."""
