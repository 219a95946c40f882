"""Base class of the project's own TFX components, declared by a table of types."""

from collections.abc import Mapping

from tfx import types
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter


def make_spec(
    *,
    inputs: Mapping[str, type[types.Artifact]],
    outputs: Mapping[str, type[types.Artifact]],
    parameters: Mapping[str, type],
    optional: tuple[str, ...] = (),
) -> type[ComponentSpec]:
    """Builds a spec class from artifact types, by key, and types of parameters.

    Example:
        make_spec(inputs={"model": Model}, outputs={}, parameters={"code": str})
    """
    attributes = {
        "PARAMETERS": {n: ExecutionParameter(type=t) for n, t in parameters.items()},
        "INPUTS": {
            name: ChannelParameter(type=kind, optional=name in optional)
            for name, kind in inputs.items()
        },
        "OUTPUTS": {n: ChannelParameter(type=kind) for n, kind in outputs.items()},
    }
    return type("Spec", (ComponentSpec,), attributes)


class CustomComponent:
    """Mixin that builds the spec, with a new channel for each output.

    The constructor takes the inputs and parameters of `SPEC_CLASS` by keyword. `code`
    is a hash of the component's code: a new one runs the component again. Derive from
    this first, then from TFX's BaseComponent or BaseBeamComponent.
    """

    def __init__(self, **arguments):
        outputs = {
            name: types.Channel(type=parameter.type)
            for name, parameter in self.SPEC_CLASS.OUTPUTS.items()
        }
        super().__init__(spec=self.SPEC_CLASS(**arguments, **outputs))
