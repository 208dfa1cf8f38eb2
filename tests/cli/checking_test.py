"""topstitch data check and topstitch advise."""

import json
import shlex

from typed import ROLES


def test_findings_read_well_and_set_the_exit_code(topstitch, here):
    code, out, err = topstitch("data", "check", "choices.csv", *ROLES)
    assert (code, err) == (1, "")
    assert "▲ There are few episodes (caution, few-episodes)" in out and "→ Log more episodes" in out
    assert "stay" not in out and max(map(len, out.splitlines())) <= 80
    code, out, _ = topstitch("data", "check", "choices.csv", *ROLES, "--json")
    found = json.loads(out)
    assert code == 1 and found["counts"]["caution"] == 1 and found["findings"][0]["code"] == "few-episodes"


def test_a_critical_finding_or_an_unreadable_log_is_two(topstitch, here):
    text = (here / "choices.csv").read_text().splitlines()
    (here / "leak.csv").write_text("\n".join([text[0] + ",obs_given", *(f"{line},{line.split(',')[6]}" for line in text[1:])]) + "\n")
    code, out, _ = topstitch("data", "check", "leak.csv", *ROLES)
    assert code == 2 and "■ A column repeats the action (critical, copied-action)" in out
    (here / "broken.csv").write_text("\n".join([*text[:5], text[5].replace(text[5].split(",")[2], "much"), *text[6:]]) + "\n")
    code, _, err = topstitch("data", "check", "broken.csv", *ROLES)
    assert code == 2 and "obs_a" in err


def test_nothing_above_a_note_is_zero(topstitch):
    from topstitch.worlds.icu_sepsis import stays_path

    roles = "--episode stay --time step --obs state --states 716 --action action --actions 25 --reward reward --terminal terminal --probability probability"
    code, out, _ = topstitch("data", "check", str(stays_path()), *roles.split())
    assert code == 0 and "• Rewards are paid at the end only (note, paid-at-the-end)" in out


def test_advice_prints_commands_that_run(topstitch, here):
    code, out, _ = topstitch("advise", "choices.csv", *ROLES)
    assert code == 0 and "Imitation or offline RL? Imitation." in out and "Sources:" in out
    code, out, _ = topstitch("advise", "choices.csv", *ROLES, "--json")
    said = json.loads(out)
    assert said["next"] == ["topstitch", "run", "choices.csv", *ROLES, "-o", "study"]
    for one in said["algorithms"]:
        command = shlex.split(shlex.join(one["command"]))
        at = command.index("--steps") + 1
        command[at], command[command.index("--seeds") + 1] = "20", "1"
        code, _, err = (
            topstitch(*command[1:], "--hidden", "8", "--batch-size", "8", "--every", "10")
            if one["name"] != "spibb"
            else topstitch(*command[1:])
        )
        assert code == 0, err
