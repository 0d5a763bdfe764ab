"""Chat templates get from our sandbox what they get from transformers', and no more: no way out of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from playground.paths import ROOT
from playground.runtimes.generation import chat_sandbox
from playground.runtimes.generation.chat_template import ChatTemplate, Refused

TURNS = [("system", "Be <brief> & kind."), ("user", "Why?"), ("assistant", "Because."), ("user", 'And "so"?\n日本')]
EACH = "{% for message in messages %}"
END = "{% endfor %}"
TEMPLATES = [
    EACH + "<|{{ message.role }}|>{{ message['content'] }}{{ eos_token }}\n" + END + "{{ add_generation_prompt }}",
    EACH + "  {% if loop.first %}\n  first\n  {% endif %}\n{{ message.content | trim }}{{ loop.index0 }}\n" + END,
    EACH + "{% if message.role == 'system' %}{% continue %}{% endif %}{{ message.content }}{% break %}" + END,
    EACH + "{% generation %}{% set inner = message.content %}{{ inner }}{{ loop.last }}{% endgeneration %}" + END,
    "{% set said = 1 %}{% generation %}{% set said = 2 %}{{ said }}{% endgeneration %}{{ said }}",
    "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ {'b': '<', 'a': 1} | tojson(sort_keys=True) }}",
    "{{ messages | tojson(ensure_ascii=True, separators=(',', ':')) }}",
    "{% set ns = namespace(found=0, self=3) %}"
    + EACH
    + "{% set ns.found = loop.index %}"
    + END
    + "{{ ns.found ~ ns.self }}",
    "{{ namespace({'a': 1}, b=2).b }}{{ namespace([('a', 5)]).a }}",
    "{{ dict(a=1, **{'b': 2}) }}{{ dict.fromkeys(['x'], 0) }}{{ dict([(1, 2)]) }}",
    "{{ raise_exception('only one turn') }}",
    "{{ strftime_now('%Y') }}",
    "{% macro say(text) %}[{{ text }}]{% endmacro %}" + EACH + "{{ say(message.content) }}" + END,
    "{{ tools is none }}{{ documents is none }}{{ tools is defined }}{{ nothing is defined }}{{ bos_token }}",
    "{{ messages[1:] | map(attribute='content') | join('|') }}{{ messages | selectattr('role', '==', 'user') | list }}",
    "{{ messages[0].content.split(' ')[0].upper() }}{{ 'a' ~ 1 }}{{ [1, 2] | sum }}{{ cycler(1).next() }}",
    "{%- for m in messages -%}\n  {{- m.content -}}\n{%- endfor -%}\n",
    "# not a comment\n{# a comment #}\n{% raw %}{{ x }}{% endraw %}\n\n",
    "{{ messages[9].content }}",
    "{{ nothing.more }}",
    "{% if %}",
    "{% unknown %}",
    "{{ 1 / 0 }}",
    "{{ lipsum(1) | length > 3 }}{{ joiner(', ')() }}",
    "{% include 'other' %}",
    "{{ '<b>' | escape }}{{ '<b>' }}{{ '%s' | format('x') }}{{ 'a b' | urlencode }}",
]
ATTACKS = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ messages.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ dict.__init__.__globals__ }}",
    "{{ dict.mro() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id') }}",
    "{{ lipsum.__globals__['os'] }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{% set ns = namespace(__class__=1) %}{{ ns.__class__ }}",
    "{% set ns = namespace({'_x': 1}) %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'a': 1}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ ('{0.__class__}' | attr('format'))(1) }}",
    "{{ range(10 ** 9) | list }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages | attr('__class__') }}",
]
NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


def ours(template: str) -> str:
    """What is rendered, or the kind of error."""
    try:
        return ChatTemplate(template, NAMED).render(TURNS, generate=True)
    except Refused as refused:
        return f"refused: {type(refused.__cause__).__name__}"


def theirs(template: str, formats: dict[str, Any]) -> str:
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if formats.get(role) == "parts" else text}
        for role, text in TURNS
    ]
    try:
        rendered, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **NAMED)
    except Exception as error:
        return f"refused: {type(error).__name__}"
    return str(rendered[0])


def formats(template: str) -> dict[str, Any]:
    try:
        return dict(ChatTemplate(template, NAMED).content_formats)
    except Refused:
        return {}


LIKE_PUBLISHED = [
    # one turn after the other, a system prompt of its own
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    # turns that have to alternate, the system prompt within the first
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set system = false %}{% endif %}{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}",
    # contents as text or as parts, thinking cut away, tools where there are some
    "{%- if tools %}{{- tools | map('tojson') | join('\n') }}{%- endif %}{%- set ns = namespace(last=-1) %}"
    "{%- for message in messages[::-1] %}{%- if ns.last < 0 and message.role == 'user' %}"
    "{%- set ns.last = loop.revindex0 %}{%- endif %}{%- endfor %}{%- for message in messages %}"
    "{%- set content = message.content if message.content is string else '' %}"
    "{%- if message.role == 'assistant' and loop.index0 < ns.last and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<start_of_turn>' ~ message.role ~ '\n' ~ content | trim ~ '<end_of_turn>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}",
    "Today is {{ strftime_now('%d %B %Y') }}. {%- if documents is defined and documents %}{{ documents }}{% endif %}"
    "{% for message in messages %}{% if message.role not in ['user', 'assistant'] %}{% continue %}{% endif %}"
    "{{ message | tojson(indent=4) }}{% endfor %}",
]


@pytest.mark.parametrize("template", [*TEMPLATES, *LIKE_PUBLISHED])
def test_a_template_says_here_what_it_says_in_transformers(template: str) -> None:
    assert ours(template) == theirs(template, formats(template))


@pytest.mark.parametrize("template", ATTACKS)
def test_no_template_gets_further_here_than_in_transformers(template: str) -> None:
    said = ours(template)
    assert said == theirs(template, formats(template))
    assert said.startswith("refused: ") or said.replace("Undefined", "").strip("[, ]") == "", "or it got nothing"


def test_the_sandbox_has_the_names_of_transformers_sandbox_and_its_ways() -> None:
    own, known = chat_sandbox.environment("{{ 1 }}"), _compile_jinja_template("{{ 1 }}").environment
    assert set(own.filters) == set(known.filters)
    assert set(own.tests) == set(known.tests)
    assert set(own.globals) == set(known.globals)
    assert {tag for each in own.extensions.values() for tag in each.tags} == {
        tag for each in known.extensions.values() for tag in each.tags
    }
    assert type(own).__mro__[:2] == type(known).__mro__[:2]
    ways = ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape", "undefined", "newline_sequence")
    for way in (*ways, "block_start_string", "variable_start_string", "comment_start_string", "line_statement_prefix"):
        assert getattr(own, way) == getattr(known, way), way
    for name in set(own.filters) - {"tojson"}:
        assert own.filters[name] is known.filters[name], name


def test_templates_share_nothing() -> None:
    one, other = chat_sandbox.environment("{{ 1 }}"), chat_sandbox.environment("{{ 2 }}")
    assert one is not other
    assert one.globals is not other.globals


def test_a_worker_that_renders_loads_no_transformers() -> None:
    code = (
        "import sys, playground.workers.main\n"
        "from playground.runtimes.generation.chat_template import ChatTemplate\n"
        "text = ChatTemplate('{% for m in messages %}{{ m.content }}{% endfor %}', {}).render([('user', 'x')], True)\n"
        "assert text == 'x'\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
