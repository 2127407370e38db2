"""Every error this project raises on purpose.

    EdgeClsError
    ├── ArtifactError                  a model file
    │   ├── ArtifactNotFoundError        there is no such file            (FileNotFoundError)
    │   ├── CorruptArtifactError         truncated, stripped, tampered    (ValueError)
    │   ├── UnsupportedArtifactError     not a classifier, newer schema   (ValueError)
    │   ├── SelfTestError                its golden self-test fails       (ValueError)
    │   └── UndescribedArtifactError     labels or range unknown          (ValueError)
    ├── EngineError                    the inference engine
    │   ├── UnknownBackendError          no backend has this name         (ValueError)
    │   ├── WrongBackendError            it runs files of another kind    (ValueError)
    │   ├── EngineNotInstalledError      the package is missing           (ImportError)
    │   ├── DelegateError                the accelerator is missing       (OSError)
    │   └── ConcurrentUseError           two threads, one classifier      (RuntimeError)
    ├── SourceError                    a source of pictures
    │   ├── SourceSpecError              no valid source specification    (ValueError)
    │   ├── SourceNotFoundError          no such file or folder           (FileNotFoundError)
    │   │   └── CameraNotFoundError        no camera, or no package for it
    │   ├── SourceLostError              the source was disconnected      (ConnectionError)
    │   ├── NoFrameYetError              no new frame yet, read again     (TimeoutError)
    │   ├── UnreadableImageError         one picture cannot be decoded    (ValueError)
    │   └── FrameError                   an array that is no picture      (ValueError)
    ├── SinkError                      a sink of results
    │   ├── SinkSpecError                no valid sink specification      (ValueError)
    │   ├── SinkNotInstalledError        the package is missing           (ImportError)
    │   ├── SpoolInUseError              another process has it open      (RuntimeError)
    │   ├── IdentityInUseError           another run publishes as this one (RuntimeError)
    │   ├── DeliveryError                not now; the spool retries       (ConnectionError)
    │   └── WriteError                   disk full, no permission         (OSError)
    ├── UnsupportedSystemError         the feature needs Linux          (NotImplementedError)
    ├── BenchmarkError                 measuring
    │   └── BaselineError                not a stored result to compare with (ValueError)
    ├── ServiceError                   the systemd unit
    │   ├── UnitTextError                text not allowed in a unit file  (ValueError)
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
        ├── ConversionError              a model it cannot convert        (ValueError)
        ├── ValidationError              models that cannot be compared   (ValueError)
        └── ExplanationError             the method needs another model   (ValueError)

A leaf class also inherits the built-in exception that a Python programmer would catch. A message states
what was received, what was expected, and what to type next.
"""


class EdgeClsError(Exception):
    """The root: ``except EdgeClsError`` catches every error that a user can fix."""


class ArtifactError(EdgeClsError):
    """An error in a model file."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """There is no model file at that path."""


class CorruptArtifactError(ArtifactError, ValueError):
    """The file is damaged: truncated, stripped of its appended files, or altered."""


class UnsupportedArtifactError(ArtifactError, ValueError):
    """The file is valid, but it is not an image classifier that this version can run."""


class SelfTestError(ArtifactError, ValueError):
    """The model runs, but its golden self-test gives another result than at conversion."""


class UndescribedArtifactError(ArtifactError, ValueError):
    """A third-party model lacks labels or an input range, which must be given."""


class EngineError(EdgeClsError):
    """An error of the inference engine."""


class UnknownBackendError(EngineError, ValueError):
    """No backend has the given name."""


class WrongBackendError(EngineError, ValueError):
    """The backend cannot run this kind of file, ``.tflite`` or ``.onnx``; another one can."""


class EngineNotInstalledError(EngineError, ImportError):
    """The package behind a backend is not installed."""


class DelegateError(EngineError, OSError):
    """An accelerator was selected, or the model needs one, and it is missing."""


class ConcurrentUseError(EngineError, RuntimeError):
    """A classifier was used by two threads at the same time."""


class SourceError(EdgeClsError):
    """An error of a source of pictures."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The folder, file or camera does not exist."""


class SourceSpecError(SourceError, ValueError):
    """An invalid source specification: an unknown kind, scheme or option."""


class CameraNotFoundError(SourceNotFoundError):
    """No such camera, it is in use or not permitted, or its package is missing."""


class SourceLostError(SourceError, ConnectionError):
    """A source that delivered frames before is gone."""


class NoFrameYetError(SourceError, TimeoutError):
    """A live source has no new frame yet; call ``read()`` again."""


class UnreadableImageError(SourceError, ValueError):
    """One picture cannot be decoded; later ones may be fine.

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
    """An error of a sink of results."""


class SinkSpecError(SinkError, ValueError):
    """An invalid sink specification: an unknown scheme or option, a password in a URL."""


class SinkNotInstalledError(SinkError, ImportError):
    """The package behind a sink is not installed."""


class SpoolInUseError(SinkError, RuntimeError):
    """A spool belongs to one process at a time."""


class IdentityInUseError(SinkError, RuntimeError):
    """Another run on this machine publishes under the same topic or name."""


class DeliveryError(SinkError, ConnectionError):
    """A record cannot be delivered for now; the owner of the records retries later.

    Attributes:
        wait_s: seconds to wait before a retry, as the receiver requested; 0: not given.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class WriteError(SinkError, OSError):
    """A file could not be written; no partial file remains."""


class UnsupportedSystemError(EdgeClsError, NotImplementedError):
    """The feature needs Linux, and this is another system."""


class BenchmarkError(EdgeClsError):
    """A benchmark that cannot be run, such as one without pictures."""


class BaselineError(BenchmarkError, ValueError):
    """A stored benchmark that cannot be read, or cannot be compared with this one."""


class ServiceError(EdgeClsError):
    """An error of the systemd unit."""


class UnitTextError(ServiceError, ValueError):
    """A name, a path or a word that a unit file cannot hold."""


class UnitAccessError(ServiceError, PermissionError):
    """This user may not install units, or the unit's user may not read a file it needs."""


class UnitNotFoundError(ServiceError, FileNotFoundError):
    """There is no unit of that name, or edgecls did not write it."""


class SystemdNotFoundError(ServiceError, FileNotFoundError):
    """There is no ``systemctl``, or this machine does not run systemd."""


class SystemctlError(ServiceError, OSError):
    """``systemctl`` failed or timed out."""


class HostToolsError(EdgeClsError):
    """An error of training, conversion or validation."""


class MissingExtraError(HostToolsError, ImportError):
    """A command needs an optional extra that is not installed."""


class DownloadError(HostToolsError, OSError):
    """A file could not be downloaded within its limits on time and size."""


class RecipeError(HostToolsError, ValueError):
    """A recipe or an override of one is invalid."""


class DatasetError(HostToolsError, ValueError):
    """A data set cannot be used as it is."""


class TrainingError(HostToolsError, RuntimeError):
    """Training cannot start or continue."""


class FolderInUseError(HostToolsError, RuntimeError):
    """Another process writes into a folder that a command needs exclusively."""


class ConversionError(HostToolsError, ValueError):
    """A model cannot be converted."""


class ValidationError(HostToolsError, ValueError):
    """A reference and an artifact cannot be compared."""


class ExplanationError(HostToolsError, ValueError):
    """The method cannot explain this model."""
