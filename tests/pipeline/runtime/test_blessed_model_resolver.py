from tfx.types import standard_artifacts

from pipeline.runtime.blessed_model_resolver import PreviousBlessedModelStrategy


def model(number):
    made = standard_artifacts.Model()
    made.id = number
    return made


def blessing(number, of, blessed=1):
    made = standard_artifacts.ModelBlessing()
    made.id = number
    made.set_int_custom_property("blessed", blessed)
    made.set_int_custom_property("current_model_id", of)
    return made


def resolve(models, blessings, candidate):
    given = {"model": models, "model_blessing": blessings, "candidate": [candidate]}
    found = PreviousBlessedModelStrategy().resolve_artifacts(None, given)
    return [m.id for m in found["model"]], [b.id for b in found["model_blessing"]]


def test_a_first_model_has_nothing_to_be_held_against():
    assert resolve([model(1)], [], model(1)) == ([], [])


def test_a_second_run_on_the_same_data_resolves_as_the_first_did():
    assert resolve([model(1)], [blessing(5, of=1)], model(1)) == ([], [])


def test_the_newest_blessed_model_before_the_candidate_is_taken():
    models = [model(1), model(2), model(3), model(9)]
    blessings = [blessing(5, of=1), blessing(6, of=2), blessing(7, of=3, blessed=0)]
    assert resolve(models, blessings, model(9)) == ([2], [6])
