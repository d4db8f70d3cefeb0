from bitleak.cli import stage_bars


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(stage_bars, "QUIET_SECONDS", 0.0)
    with stage_bars.StageBars() as shown:
        shown.show(0.25, "attacking")
        shown.show(1.0, "attacking")
    assert capsys.readouterr().out.split("\n")[:2] == ["attacking: 25 %", "attacking: 100 %"]


def test_lines_that_follow_soon_are_left_out(capsys):
    with stage_bars.StageBars() as shown:
        shown.show(0.25, "attacking")
    assert capsys.readouterr().out.strip() == ""
