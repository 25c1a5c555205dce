"""The HTML page's template (Jinja2, autoescaped) and style: one file, no script, nothing from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #1b2028; --soft: #59636e; --line: #d5dae1; --code: #eef1f5;
  --critical: #b42318; --warning: #8a5a00; --info: #175cd3; --clean: #12703a; --silent: #6b2fb3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101317; --card: #191e25; --ink: #e8ebef; --soft: #a3adb9; --line: #323a45; --code: #232a33;
    --critical: #ff8a7d; --warning: #f5c04e; --info: #84b4ff; --clean: #5fd38d; --silent: #c7a1ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 60rem; padding: 0 1rem 3rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.45rem; line-height: 1.25; margin: 1.25rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 0; display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: .25rem 0; }
.soft { color: var(--soft); font-size: .9rem; }
.verdict { border-left: .4rem solid var(--tone); padding-left: .8rem; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin-top: 1rem;
}
.finding { border-top: 1px solid var(--line); margin-top: .9rem; padding-top: .9rem; }
.badge {
  color: var(--tone); border: 1px solid var(--tone); border-radius: 1rem; padding: .05rem .6rem; font-size: .85rem;
  font-weight: 600; white-space: nowrap;
}
.badges { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; margin: 0 0 .35rem; }
.critical, .failed { --tone: var(--critical); }
.warning, .drift { --tone: var(--warning); }
.info { --tone: var(--info); }
.clean { --tone: var(--clean); }
.unreachable { --tone: var(--silent); }
.quiet { --tone: var(--soft); }
dl { display: grid; grid-template-columns: 5.5rem 1fr; gap: .25rem .75rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; }
code, .value { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9rem; }
.cure {
  display: block; background: var(--code); border-radius: .4rem; padding: .6rem .7rem; margin-top: .15rem;
  -webkit-user-select: all; user-select: all;
}
details { margin-top: .25rem; }
details:first-of-type { margin-top: .6rem; }
.label { color: var(--soft); font-size: .85rem; margin: .6rem 0 0; }
summary { cursor: pointer; padding: .5rem 0; min-height: 2.75rem; display: list-item; line-height: 1.75rem; }
ul { margin: .25rem 0 0; padding-left: 1.2rem; }
li { margin: .35rem 0; }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dt { margin-top: .35rem; font-size: .85rem; }
}
@media print { .card { break-inside: avoid; } }
"""

TEMPLATE = """\
{% macro time(text) -%}
<time datetime="{{ text }}">{{ text | clock }}</time>
{%- endmacro %}
{% macro aged(since, at) -%}
{% set age = since | span(at) %}{% if age %} ({{ age }}){% endif %}
{%- endmacro %}
{% macro finding(one, report) %}
<article class="finding">
<p class="badges">
{% if one.state == "ignored" %}
<span class="badge quiet">ignored</span>
{% else %}
<span class="badge {{ one.severity }}">{{ one.severity }}</span>
{% if one.state == "new" %}<span class="badge critical">new</span>{% endif %}
{% if one.state == "unverified" %}<span class="badge quiet">could not be seen now</span>{% endif %}
{% endif %}
<span class="soft">{{ one.area }}</span>
</p>
<h3>{{ one.item }}{% if one.aspect %} <span class="soft">{{ one.aspect }}</span>{% endif %}</h3>
<dl>
{% if one.expected %}<dt>expected</dt><dd class="value">{{ one.expected }}</dd>{% endif %}
{% if one.found %}<dt>found</dt><dd class="value">{{ one.found }}</dd>{% endif %}
<dt>since</dt><dd>{{ time(one.since) }}{{ aged(one.since, report.at) }}</dd>
{% if one.state == "ignored" %}
<dt>ignored</dt><dd>until {{ one.ignored_until }}: {{ one.ignore_reason }}</dd>
{% endif %}
{% if one.note is defined %}<dt>note</dt><dd>{{ one.note }}</dd>{% endif %}
</dl>
{% if one.cure_kind == "playbook" %}
<p class="label">Cure (one tap selects all of it)</p>
<code class="cure">{{ one.cure }}</code>
{% else %}
<p class="label">Cure</p>
<p>{{ one.cure }}</p>
{% endif %}
</article>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex, nofollow">
<title>{{ verdict }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<header>
<h1 class="verdict {{ tone }}">{{ verdict }}</h1>
<p class="soft">Looked at {{ time(report.at) }} in {{ "%.0f" | format(report.seconds) }} s by
{{ report.controller.user }} on {{ report.controller.host }}. Run {{ report.run }}
{%- if report.project_commit %}, project {{ report.project_commit }}{% endif %}.
{% if report.previous %}Compared with the report of {{ time(report.previous.at) }}.{% endif %}</p>
{% if report.summary.critical or report.summary.warning or report.summary.info %}
<p class="badges">
{% for severity in severities if report.summary[severity] %}
<span class="badge {{ severity }}">{{ report.summary[severity] }} {{ severity }}</span>
{% endfor %}
{% if report.summary.new %}<span class="badge critical">{{ report.summary.new }} new</span>{% endif %}
{% if report.summary.ignored %}<span class="badge quiet">{{ report.summary.ignored }} ignored</span>{% endif %}
{% if report.summary.gone %}<span class="badge clean">{{ report.summary.gone }} gone</span>{% endif %}
</p>
{% endif %}
</header>
<main>
{% for host in hosts %}
<section class="card">
<h2>{{ host.name }} <span class="badge {{ host.status }}">{{ host.status }}</span></h2>
<p class="soft">
{% if host.release %}Release {{ host.release.tag }}, {% endif %}{{ host.status }} since {{ time(host.status_since) }}
{{- aged(host.status_since, report.at) }}</p>
{% if host.message %}<p>{{ host.message }}</p>{% endif %}
{% for one in host.findings if one.state != "ignored" %}{{ finding(one, report) }}{% endfor %}
{% if host.notes %}
<ul>
{% for note in host.notes %}<li>{{ note }}</li>{% endfor %}
</ul>
{% endif %}
{% set set_aside = host.findings | selectattr("state", "equalto", "ignored") | list %}
{% if set_aside %}
<details>
<summary>{{ set_aside | length }} ignored</summary>
{% for one in set_aside %}{{ finding(one, report) }}{% endfor %}
</details>
{% endif %}
{% if host.gone %}
<details>
<summary>{{ host.gone | length }} gone since the report before</summary>
<ul>
{% for one in host.gone %}
<li>{{ one.area }}: {{ one.item }} {{ one.aspect }}
<span class="soft">(was there since {{ time(one.since) }})</span></li>
{% endfor %}
</ul>
</details>
{% endif %}
{% if host.checked %}
<details>
<summary>{{ host.checked.values() | sum }} things compared</summary>
<p class="soft">
{% for area in areas if area in host.checked %}{{ area }}&nbsp;{{ host.checked[area] }}{{ ", " if not loop.last }}
{% endfor %}
</p>
</details>
{% endif %}
</section>
{% endfor %}
{% if report.summary.ignores %}
<section class="card">
<h2>Rules that ignore</h2>
<ul>
{% for rule in report.summary.ignores %}
<li><span class="badge {{ 'warning' if rule.state in ('ended', 'refused') else 'quiet' }}">{{ rule.state }}</span>
{{ rule.host }} {{ rule.area }} {{ rule.item }}{% if rule.until %}, until {{ rule.until }}{% endif %}
{%- if rule.reason %}: {{ rule.reason }}{% endif %}
{% if rule.message %}<br>{{ rule.message }}{% endif %}</li>
{% endfor %}
</ul>
</section>
{% endif %}
</main>
</body>
</html>
"""
