"""What the engine promises holds for each of its backends."""

import pytest

from doubles import make_model
from open_exaone.engine import engine as engine_module
from open_exaone.engine import native


def skip_without_kernels(name):
    if name == "native" and (why := native.why_not(make_model())):
        pytest.skip(why)


@pytest.fixture(scope="module", params=["native", "graphs", "plain"])
def backend(request):
    """Which backend an engine has that a test makes without naming one."""
    skip_without_kernels(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "default_backend", lambda model: request.param)
        yield request.param


@pytest.fixture(params=["native", "graphs"])
def fast(request):
    """A backend that adds nothing but speed to the plain one."""
    skip_without_kernels(request.param)
    return request.param
