"""TFX resolver of the baseline: the last blessed model before the candidate."""

from tfx import types
from tfx.dsl.components.common.resolver import ResolverStrategy

MODEL, BLESSING, CANDIDATE = "model", "model_blessing", "candidate"


class PreviousBlessedModelStrategy(ResolverStrategy):
    """Picks the newest blessed model that is not the candidate itself.

    TFX's own strategy would return the candidate itself in a second run on the same
    data, compare it with itself, and push it again.
    """

    def resolve_artifacts(
        self, store, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Returns the newest blessed model, if any, its blessing, and the candidate."""
        candidates = {artifact.id for artifact in input_dict[CANDIDATE]}
        models = {artifact.id: artifact for artifact in input_dict[MODEL]}
        result = {MODEL: [], BLESSING: [], CANDIDATE: input_dict[CANDIDATE]}
        blessings = sorted(input_dict[BLESSING], key=lambda b: b.id, reverse=True)
        for blessing in blessings:
            model_id = blessing.get_int_custom_property("current_model_id")
            blessed = blessing.get_int_custom_property("blessed")
            if blessed and model_id in models and model_id not in candidates:
                return {**result, MODEL: [models[model_id]], BLESSING: [blessing]}
        return result
