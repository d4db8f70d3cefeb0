from bitleak.cli import terminal


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    with terminal.StageBars() as shown:
        shown.show(0.25, "attacking")
        shown.show(1.0, "attacking")
    assert capsys.readouterr().out.split("\n")[:2] == ["attacking: 25 %", "attacking: 100 %"]


def test_lines_that_follow_soon_are_left_out(capsys):
    with terminal.StageBars() as shown:
        shown.show(0.25, "attacking")
    assert capsys.readouterr().out.strip() == ""
