/** A run's spec said in other words: for bash, for Python, for the command line. */

import type { Spec } from './events.ts';

/** A spec, or a form whose defaults were left out. */
export type Said = Partial<Omit<Spec, 'answer' | 'user'>> & { user: string; answer?: Partial<Spec['answer']> };

export const WAYS = ['curl', 'Python', 'CLI'] as const;
export type Way = (typeof WAYS)[number];

/** The words that start this run again: at a server's address, or with `model` on the command line. */
export function copyAs(way: Way, spec: Said, { server, model }: { server: string; model: string }): string {
  if (way === 'CLI') return cli(spec, model);
  return way === 'curl' ? curl(spec, server) : python(spec, server);
}

/** A word for bash and its kin: inside single quotes nothing is special but they themselves. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function curl(spec: Said, server: string): string {
  const body = quoted(JSON.stringify(spec, null, 2));
  return `curl -sS ${quoted(`${server}/api/runs`)} -H 'Content-Type: application/json' --data-binary ${body}\n`;
}

function python(spec: Said, server: string): string {
  return `import json
import urllib.request

server = ${literal(server, '')}
spec = ${literal(spec, '')}
request = urllib.request.Request(f"{server}/api/runs", json.dumps(spec).encode(), {"Content-Type": "application/json"})
run = json.load(urllib.request.urlopen(request))["id"]
for line in urllib.request.urlopen(f"{server}/api/runs/{run}/events"):  # until it has ended
    if line.startswith(b"data:"):
        print(json.loads(line[5:]).get("text") or "", end="", flush=True)
print(f"\\n{server}/run/{run}")
`;
}

/** JSON as Python writes it: its strings are Python's strings as well. */
function literal(value: unknown, indent: string): string {
  const inner = `${indent}    `;
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value !== 'object') return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const rows = Array.isArray(value)
    ? value.map((each) => inner + literal(each, inner))
    : Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${literal(each, inner)}`);
  return rows.length ? `${open}\n${rows.join(',\n')},\n${indent}${close}` : `${open}${close}`;
}

const OPTIONS = ['T_e', 'T_total', 'temperature', 'end_probability', 'transition', 'seed'] as const;

function cli(spec: Said, model: string): string {
  const { name, ...params } = spec.strategy ?? { name: 'non_uniform' };
  const words = ['superpose', 'run', `--model=${model}`];
  const add = (option: string, value: unknown): void => {
    if (value !== undefined && value !== null) words.push(`--${option}=${String(value)}`);
  };
  if (spec.system) add('system', spec.system);
  add('strategy', name);
  for (const [param, value] of Object.entries(params)) add('set', `${param}=${setting(value)}`);
  for (const option of OPTIONS) add(option.replace('_', '-'), spec[option]);
  if (spec.end_probability === null) add('end-probability', 'none');
  add('answer-temperature', spec.answer?.temperature);
  add('top-p', spec.answer?.top_p);
  add('top-k', spec.answer?.top_k);
  add('min-p', spec.answer?.min_p);
  if (spec.fork) add('fork', JSON.stringify(spec.fork));
  const command = words.map(quoted).join(' ');
  // the prompt comes after --, as it may begin with a dash; a dash alone would mean standard input
  if (spec.user === '-') return `printf %s - | ${command} -- -\n`;
  return `${command} -- ${quoted(spec.user)}\n`;
}

/** A parameter's value for --set, which reads JSON where it can: only words that are none go without quotes. */
function setting(value: unknown): string {
  const plain = typeof value === 'string' && /^[a-z]\w*$/i.test(value) && !/^(true|false|null|NaN|Infinity)$/.test(value);
  return plain ? value : JSON.stringify(value);
}
