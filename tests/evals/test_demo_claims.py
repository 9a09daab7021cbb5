import dataclasses

from assent.evals.evidence import to_json
from benchmarks.demo_claims import claims, main


def test_claims_hold_for_seeds_that_show_them(evidence_by_name):
    judged = claims(evidence_by_name["three_seeds"])
    assert all(holds for holds, _ in judged)
    assert "gamed with 3 of 3 seeds" in judged[0][1] and "gamed with 0 of 3 seeds" in judged[1][1]


def test_a_claim_that_one_seed_of_three_contradicts_fails(evidence_by_name, tmp_path, capsys):
    whole = evidence_by_name["three_seeds"]
    first = whole.per_seed[0]
    calm = dataclasses.replace(first, verdicts={**first.verdicts, "no_kl": first.verdicts["ppo"]})
    broken = dataclasses.replace(whole, per_seed=(calm, *whole.per_seed[1:]))
    assert [holds for holds, _ in claims(broken)].count(False) == 1
    (tmp_path / "report.json").write_text(to_json(broken), encoding="utf-8")
    assert main(["--report", str(tmp_path / "report.json")]) == 1
    assert "FAILS  kl_coef 0: the reward is gamed with 2 of 3 seeds" in capsys.readouterr().out
