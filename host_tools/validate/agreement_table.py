"""An agreement as text: a line per runtime, then the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from host_tools.validate.agreement import Agreement, Participant


def to_lines(agreement: Agreement) -> Iterator[str]:
    """The table that ``edgecls validate`` prints with several backends."""
    participants, reference = agreement.participants, agreement.reference
    several = len({p.runtime.path for p in participants}) > 1
    names = [
        f"{p.runtime.backend} {p.runtime.path.name}" if several else p.runtime.backend
        for p in participants
    ]
    if reference is not None:
        yield f"reference  {names[reference]}  on {agreement.n} pictures"
    head = ("", "backend", "accuracy", "agreement", "largest difference", "runtime", "status")
    yield from _columns(
        [
            head,
            *(
                (str(i + 1), names[i], *_figures(p), p.version or "-", p.status)
                for i, p in enumerate(participants)
            ),
        ],
        left=(1, 5, 6),
    )
    working = [i for i, p in enumerate(participants) if p.accuracy is not None]
    if len(working) > 1:
        yield ""
        yield "the same answers, in % of the pictures"
        yield from _columns(
            [
                ("", "", *(str(j + 1) for j in working)),
                *(
                    (str(i + 1), names[i], *(_percent(agreement.matrix[i][j]) for j in working))
                    for i in working
                ),
            ],
            left=(1,),
        )


def _figures(participant: Participant) -> tuple[str, str, str]:
    difference = participant.score_difference
    return (
        "-" if participant.accuracy is None else f"{100 * participant.accuracy:.2f} %",
        "-" if participant.agreement is None else f"{100 * participant.agreement:.2f} %",
        "-" if difference is None else f"{difference.largest:.2g}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _columns(rows: Sequence[Sequence[str]], left: Sequence[int]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
