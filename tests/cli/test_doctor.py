"""`exaone doctor`: what it looks at."""


def test_doctor_finds_what_it_needs(cli):
    code, text = cli("doctor")
    assert code == 0
    assert "torch" in text and "processor" in text and "native kernels: " in text
