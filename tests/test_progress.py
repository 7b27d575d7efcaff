"""Progress is told in one place: to a listener where there is one."""

from headlens.progress import listening, progress


def test_a_listener_is_told_how_far_the_work_has_come(capsys) -> None:
    told: list[str] = []
    with listening(told.append), progress("Counting", 2300, unit="sheep", done=300) as advance:
        advance(1000)
        advance(1000)
    assert told == [
        "Counting: 300 of 2,300 sheep",
        "Counting: 1,300 of 2,300 sheep",
        "Counting: 2,300 of 2,300 sheep",
    ]
    with progress("Counting", 1) as advance:
        advance(1)
    assert len(told) == 3  # nobody listens any more
    assert capsys.readouterr() == ("", "")
