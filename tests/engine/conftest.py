"""What the engine promises holds for each of its backends."""

import pytest

from doubles import make_model
from open_exaone.engine import engine as engine_module
from open_exaone.engine import native


@pytest.fixture(scope="module", params=["native", "plain"])
def backend(request):
    """Which backend an engine has that a test makes without naming one."""
    if request.param == "native":
        if why := native.why_not(make_model()):
            pytest.skip(why)
        yield "native"
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "why_not", lambda model: "this test is about the plain backend")
        yield "plain"
