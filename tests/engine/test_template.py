"""Chat templates of strangers: what they mean to transformers, within walls, and no endless product or power."""

import pytest

from superpose.engine import UnsupportedModel
from superpose.engines.chat import ChatTemplate

pytest.importorskip("jinja2", reason="it comes with an engine")

from superpose.engines.template import Renderer


def text(template):
    """What a template makes of one message."""
    return ChatTemplate(Renderer(template, {"bos_token": "<s>", "eos_token": "</s>"})).text("", "hi")


@pytest.mark.parametrize(
    "words",
    [
        "{% if tools is not none %}tools{% endif %}{% if documents is none %}no documents{% endif %}",
        "{% if tools is defined and not tools %}none{% endif %}",
        "{% generation %}x{% endgeneration %}{{ messages | tojson }}{{ bos_token }}{{ eos_token }}",
        "{% set x = 'A' %}{% generation %}{{ x }}{% set x = 'B' %}{{ x }}{% endgeneration %}{{ x }}",
        "{% for i in range(2) %}{% generation %}{{ loop.index }}{{ i }}{% endgeneration %}{% endfor %}",
        "{{ messages[0] | tojson(sort_keys=true, separators=(',', ':')) }}",
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% if i == 3 %}{% break %}{% endif %}"
        "{% endfor %}",
        "{% set n = namespace(x=1) %}{% for i in range(3) %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}",
        "{% set n = namespace({'a': 1}, b=2) %}{% set n.self = 3 %}{{ n.a + n.b + n.self }}{{ dict(a=1).a }}"
        "{{ dict([('x', 2)]).x }}{{ dict.fromkeys([1, 2], 0) }}",
        "  {% if true %}\n  a\n  {% endif %}\n{{ strftime_now('%Y') }}{{ add_generation_prompt }}",
    ],
)
def test_templates_mean_what_they_mean_to_transformers(words):
    rendering = pytest.importorskip("transformers.utils.chat_template_utils")
    template = words + "{{ messages[-1]['content'] }}"
    own = rendering.render_jinja_template(
        [[{"role": "user", "content": "hi"}]], chat_template=template, add_generation_prompt=True,
        bos_token="<s>", eos_token="</s>",
    )[0][0]  # fmt: skip
    assert text(template) == own


@pytest.mark.parametrize(
    "template",
    [
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{{ namespace(__class__=1) }}",
        "{{ dict.mro() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
    ],
)
def test_templates_do_not_reach_what_lies_outside_of_their_sandbox(template):
    rendering = pytest.importorskip("transformers.utils.chat_template_utils")
    with pytest.raises(Exception):  # noqa: B017  # of any kind: it is what transformers refuses too
        rendering.render_jinja_template([[{"role": "user", "content": "hi"}]], chat_template=template)
    with pytest.raises(ValueError, match="the chat template of this model refuses the message"):
        text(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 9**(9**9) }}",
        "{{ 'a'*9999999999 }}",
        "{{ 9999999999*[0] }}",
        "{% set n = namespace(x=9) %}{% for _ in range(9) %}{% set n.x = n.x**64 %}{% endfor %}",
        "{% set n = namespace(x=9) %}{% for _ in range(40) %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
)
def test_a_chat_template_that_would_freeze_the_process_is_refused_in_words(template):
    with pytest.raises(ValueError, match=r"it computes .* \*"):  # not even while it is read
        text(template)
    usual = (
        "{{ '-'*3 }}{{ 2**10 * 3 }}{{ 2**65 // 2**64 }}{{ 2**-1 }}{{ 1.5 * 2 }}{{ -1 * 3 }}{{ messages[0].content }}"
    )
    assert text(usual) == "---307220.53.0-3hi"


def test_a_template_that_is_none_is_refused_by_name():
    with pytest.raises(UnsupportedModel, match="the chat template of this model cannot be read: Expected"):
        text("{% if %}")
