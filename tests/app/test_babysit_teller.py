"""What `wavedeck babysit` prints of an alert."""

from __future__ import annotations

import pytest

from wavedeck.app.cli.babysitting import _Teller
from wavedeck.engine.alerts.alert import Severity, make_alert


def test_the_lines_of_an_alert_stand_indented_below_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    _Teller(False).alert(make_alert("crashed/x/1", Severity.ERROR, "x crashed", ["step 3", "", "OSError: no"], t=0.0))
    _Teller(False).alert(make_alert("finished/x/1", Severity.INFO, "x is finished", t=0.0))
    first, *below, last = capsys.readouterr().out.splitlines()
    assert first.endswith("error  x crashed") and below == ["    step 3", "    OSError: no"]
    assert last.endswith("info  x is finished")
