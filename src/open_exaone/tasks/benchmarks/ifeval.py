"""IFEval: prompts with instructions that a program can check."""

from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, Hub, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import text
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.verify.constraints.row import read_row


def parse_ifeval(row: Row, number: int) -> Problem:
    """The prompt unchanged; it states the instructions for the reply itself, its language included."""
    read_row(row)
    metadata = {"instruction_id_list": row["instruction_id_list"], "kwargs": row["kwargs"]}
    question = text(row, "prompt")
    return Problem(f"ifeval/{row.get('key', number)}", "ifeval", "en", question, "", "constraints", metadata=metadata)


IFEVAL = Benchmark(
    name="ifeval",
    pins=pins_of("ifeval"),
    what="541 prompts whose instructions on form a program checks.",
    language="en",
    verifiers=("constraints",),
    prompt=PromptKind.PLAIN,
    hub=Hub("google/IFEval", ("ifeval_input_data.jsonl",), split="train"),
    access=Access.OPEN,
    licence="Apache-2.0",
    parse=parse_ifeval,
)
