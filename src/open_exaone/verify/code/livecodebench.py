"""LiveCodeBench's private tests: JSON, or base64 of zlib of a pickle that holds nothing but one string of JSON."""

import base64
import binascii
import json
import zlib

from open_exaone.base.streams import parse_json

MAX_BYTES = 256 << 20  # of one row's tests, unpacked; the largest published ones are well below
_MAX_OPCODES = 16  # a string needs five
_HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}
_STRINGS = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}


def decode_private_tests(text: str, max_bytes: int = MAX_BYTES) -> object:
    """The tests of a row's `private_test_cases`.

    Raises:
        ValueError: the text is neither JSON nor the packed form, is too large, unpacks to more than `max_bytes`, or its
            pickle holds anything but a string; such a pickle is only looked at, never run.
    """
    try:
        return parse_json(text)
    except json.JSONDecodeError:  # the packed form, it seems; what is wrong with JSON otherwise is an error
        pass
    try:
        packed = base64.b64decode(text, validate=True)
        unzip = zlib.decompressobj()
        pickled = unzip.decompress(packed, max_bytes)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"neither JSON nor base64 of zlib of a pickle ({error})") from None
    if not unzip.eof:
        fault = f"unpacks to more than {max_bytes:,} bytes" if len(pickled) >= max_bytes else "is cut"
        raise ValueError(f"the zlib data {fault}")
    return parse_json(_string_in(pickled))


def _string_in(pickled: bytes) -> str:
    """The one string that a pickle holds, read from its opcodes. Nothing is unpickled, so nothing can run."""
    import pickletools  # slow to import, and few data sets need it

    found: list[str] = []
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if opcode.name in _STRINGS and not found:
            found.append(str(argument))
        elif opcode.name not in _HARMLESS or count >= _MAX_OPCODES:
            raise ValueError(f"its pickle holds more than one string (opcode {opcode.name}); it was not run")
    if not found:
        raise ValueError("its pickle holds no string")
    return found[0]
