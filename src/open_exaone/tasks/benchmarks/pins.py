"""Hashes of copies that we have read, so that a benchmark that changed under its name is noticed.

A hash covers the rows that count, with all their fields (`load.Loaded.sha256`); the fields are those of the copy.
"""

from open_exaone.tasks.benchmarks.benchmark import Pin

_CONTEST = "problem answer competition problem_idx"  # MathArena's own files
_NEEDLE = "id kind length depth prompt answer"
_REDUX = "subject question choices answer error_type error_type_norm source correct_answer potential_reason"
_SEEN = {
    "math_500": (
        "problem solution answer subject level unique_id",
        "7c8b08d0eb47803ec052265ceb2f1746adc9f18462be067e3129fecef77fd2e2",
    ),
    "aime_2024": (
        "id problem solution answer url question",
        "11148419805c13e0e17781db52329e19d4240a0fa5024af4d5fa0eac0522f174",
    ),
    "aime_2025": (_CONTEST, "f371fb4f1a49616867a2c7a4d76e2d10ea0f19df2b0c4de1ed2ef0ffb512fc0e"),
    "hmmt_feb_2025": (_CONTEST, "7ea90e9fa2eb83e266be5aa48ad13ce6c16c32af9e8412f9efa2844bc1e0c8b0"),
    "csat_2025_math": (
        "id year section number points type problem choices answer answer_value figure",
        "6a274c2eb50d39ff9fe30672d2818c0227e4f3d2b9d130e0bb555b13c99bc520",
    ),
    "mmlu_redux": (_REDUX, "7a62cb707cbb6a2b65a0e816fe13e1a1a424e94e4fa0b98ec328b64495cd1907"),
    "mmlu_redux_corrected": (_REDUX, "322c8608e0628d76e0195881f4bda7c9bad8165815ed3cce024989103ec1b04a"),
    "mmlu_pro": (
        "question_id question options answer answer_index cot_content category src",
        "2f53988758d8cea847a705d985b3af8d975f7ce0a248f0c7a979e844f90ce593",
    ),
    "humaneval": (
        "task_id prompt entry_point canonical_solution test",
        "53e6de8cb31dc96b8f53510f0ad0d6bbb34c02bf136f16bdcb6065a0964ec973",
    ),
    "mbpp": (
        "text code task_id test_setup_code test_list challenge_test_list",
        "e30ca4c358cf81646523d31e10149e35f5aea8fd0210a00cd24f7a0f5a066850",
    ),
    "gsm8k": ("question answer", "524c11ab4ee19ae27e71a10fff523a583dbba0a714e6be0ff2518668c0071daa"),
    "ifeval": (
        "key prompt instruction_id_list kwargs",
        "1e0f5af417ae2855dfbf092c45ee9abf74d4504d59d6a473519e3fcac32c0aa3",
    ),
    # made by code, from what is made by default; the first by reasoning-gym 0.1.25
    "reasoning_gym": (
        "data_set number seed prompt entry",
        "0ca874522202a432a8bb586c9be5ac00329ab16cf42289c38a8519f912d40296",
    ),
    "needle": (_NEEDLE, "3b4696874eaff0266796758056fc69a3ce398035e1ba7dccaf9fbfc18fb1555b"),
    "needle_ko": (_NEEDLE, "f1b08da59c356163b61e2b14d048f906a82a295912efb317f540286491f011a4"),
}


def pins_of(name: str) -> tuple[Pin, ...]:
    """The hashes known of a benchmark; none where we have seen no copy."""
    if name not in _SEEN:
        return ()
    fields, sha256 = _SEEN[name]
    return (Pin(frozenset(fields.split()), sha256),)
