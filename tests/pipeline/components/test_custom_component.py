import pytest
from tfx import types
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import EmptyExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types.standard_artifacts import Examples, Model, Schema

from pipeline.components.custom_component import CustomComponent, make_spec


class Component(CustomComponent, BaseComponent):
    SPEC_CLASS = make_spec(
        inputs={"examples": Examples, "model": Model},
        optional=("model",),
        outputs={"schema": Schema},
        parameters={"code": str},
    )
    EXECUTOR_SPEC = ExecutorClassSpec(EmptyExecutor)


def test_a_component_has_inputs_parameters_and_new_outputs():
    examples = types.Channel(type=Examples)
    first, second = (Component(examples=examples, code=code) for code in "12")
    assert first.inputs == {"examples": examples}
    assert first.exec_properties == {"code": "1"}
    assert first.outputs["schema"].type is Schema
    assert first.outputs["schema"] is not second.outputs["schema"]


def test_a_missing_input_is_an_error():
    with pytest.raises(ValueError, match="examples"):
        Component(code="1")
