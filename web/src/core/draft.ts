/** What is on the form: the next run. Checked while it is typed; turned into a spec when Generate is pressed. */

import type { Spec, StrategyInfo } from './events.ts';
import { checkField, type Field, fieldOf, fieldsOf, valueOf } from './form.ts';

export interface Draft {
  model: string | null; // null = the server's own
  system: string;
  user: string;
  strategy: string;
  params: Record<string, Record<string, string>>; // strategy -> parameter -> as typed
  values: Record<string, string>; // path of a general field -> as typed
}

const MOST_STEPS = 100_000;

/** The fields that every strategy has. Bounds are the server's. */
export const GENERAL: readonly Field[] = [
  fieldOf('T_e', 'T_e', {
    type: 'integer', default: 50, minimum: 0, maximum: MOST_STEPS, description: 'most thinking steps (phase 1)',
  }),
  fieldOf('T_total', 'T_total', {
    type: 'integer', default: 250, minimum: 1, maximum: MOST_STEPS, description: 'most steps of both phases together',
  }),
  fieldOf('temperature', 'Temperature', {
    type: 'number', default: 0.8, minimum: 0, maximum: 10, description: '0 = greedy',
  }),
  fieldOf('seed', 'Seed', {
    anyOf: [{ type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER }, { type: 'null' }],
    default: null,
    description: 'empty = a fresh one',
  }),
];

/** The field whose default is the strategy's. */
function endProbability(strategy: StrategyInfo | undefined): Field {
  return fieldOf('end_probability', 'End probability', {
    anyOf: [{ type: 'number', exclusiveMinimum: 0, maximum: 1 }, { type: 'null' }],
    default: strategy ? strategy.end_probability : 0.05,
    description: 'an end token this likely ends thinking; empty = never',
  });
}

const ANSWER: readonly Field[] = [
  fieldOf('answer.temperature', 'Answer temperature', {
    anyOf: [{ type: 'number', minimum: 0, maximum: 10 }, { type: 'null' }],
    default: null,
    description: 'empty = as above',
  }),
  fieldOf('answer.top_p', 'Answer top-p', {
    type: 'number', default: 1, exclusiveMinimum: 0, maximum: 1, description: 'keep the likeliest up to this probability',
  }),
  fieldOf('answer.top_k', 'Answer top-k', {
    type: 'integer', default: 0, minimum: 0, description: 'keep this many likeliest; 0 = all',
  }),
  fieldOf('answer.min_p', 'Answer min-p', {
    type: 'number', default: 0, minimum: 0, maximum: 1, description: 'keep those of this share of the likeliest',
  }),
];

export const TRANSITION = fieldOf('transition', 'Transition', {
  anyOf: [{ type: 'string' }, { type: 'null' }],
  default: null,
  description: "text forced after thinking; empty = the strategy's",
});

/** An empty text stands for the strategy's own: that there is to be none is said beside it. */
export const NO_TRANSITION = fieldOf('no_transition', 'No transition', {
  type: 'boolean', default: false, description: 'force nothing after thinking',
});

/** The fields under "More". */
export function advanced(strategy: StrategyInfo | undefined): Field[] {
  return [endProbability(strategy), ...ANSWER];
}

/** A field as this draft has it: what names no T_e thinks no longer than the run lasts. */
function at(draft: Draft, field: Field): Field {
  if (field.path !== 'T_e') return field;
  const total = Number(draft.values['T_total'] ?? Infinity);
  return Number.isInteger(total) && total > 0 && total < Number(field.initial) ? { ...field, initial: String(total) } : field;
}

/** The fields that every strategy has, with the defaults that they have in this draft. */
export function general(draft: Draft): Field[] {
  return GENERAL.map((field) => at(draft, field));
}

function all(strategy: StrategyInfo | undefined): Field[] {
  return [...GENERAL, ...advanced(strategy), TRANSITION];
}

export function newDraft(): Draft {
  return { model: null, system: '', user: '', strategy: 'non_uniform', params: {}, values: {} };
}

/** A general field's value as typed. */
export function typed(draft: Draft, field: Field): string {
  return draft.values[field.path] ?? at(draft, field).initial;
}

/** A strategy parameter's value as typed. */
export function typedParam(draft: Draft, field: Field): string {
  return draft.params[draft.strategy]?.[field.label] ?? field.initial;
}

/** Chooses a strategy. An end probability that was the default of the one before goes with it. */
export function choose(draft: Draft, before: StrategyInfo | undefined, name: string): void {
  const { path, initial } = endProbability(before);
  if (before && draft.values[path] === initial) delete draft.values[path];
  draft.strategy = name;
}

/** Chooses a strategy with everything that is its own at its default. */
export function chooseFresh(draft: Draft, name: string): void {
  draft.strategy = name;
  delete draft.params[name];
  delete draft.values['end_probability'];
  delete draft.values[TRANSITION.path];
  delete draft.values[NO_TRANSITION.path];
}

/** What is wrong with the form: path of the field -> sentence. Empty when the run may start. */
export function checkDraft(draft: Draft, strategy: StrategyInfo | undefined): Record<string, string> {
  const wrong: Record<string, string> = {};
  if (!draft.user.trim()) wrong['user'] = 'Write a user prompt first: a run needs one';
  for (const field of all(strategy)) {
    const problem = checkField(field, typed(draft, field));
    if (problem) wrong[field.path] = problem;
  }
  if (!wrong['T_e'] && !wrong['T_total'] && strategy?.thinks !== false) {
    const [T_e = 0, T_total = 0] = GENERAL.map((field) => Number(typed(draft, field)));
    if (T_e > T_total) {
      wrong['T_e'] = `T_e must be at most T_total (${T_total}); got ${T_e}`;
    }
  }
  for (const field of strategy ? fieldsOf(strategy.schema.properties ?? {}) : []) {
    const problem = checkField(field, typedParam(draft, field));
    if (problem) wrong[field.path] = problem;
  }
  return wrong;
}

/** The body of `POST /api/runs`. What was left at its default is left out, so that the server's rules apply. */
export function bodyOf(draft: Draft, strategy: StrategyInfo): Record<string, unknown> {
  const chosen: Record<string, unknown> = { name: strategy.name };
  for (const field of fieldsOf(strategy.schema.properties ?? {})) {
    chosen[field.label] = valueOf(field, typedParam(draft, field));
  }
  const body: Record<string, unknown> = { system: draft.system, user: draft.user, strategy: chosen };
  if (draft.model !== null) body['model'] = draft.model;
  const answer: Record<string, unknown> = {};
  for (const field of all(strategy)) {
    const raw = typed(draft, field);
    const value = valueOf(field, raw);
    if (GENERAL.includes(field)) body[field.path] = value;
    else if (raw === field.initial) continue;
    else if (field.path.startsWith('answer.')) answer[field.path.slice('answer.'.length)] = value;
    else body[field.path] = value;
  }
  if (draft.values[NO_TRANSITION.path] === 'true') body[TRANSITION.path] = '';
  if (!strategy.thinks) body['T_e'] = Math.min(Number(body['T_e']), Number(body['T_total'])); // it does not apply
  if (Object.keys(answer).length) body['answer'] = answer;
  return body;
}

/** The form that would start this run again. */
export function draftOf(spec: Spec): Draft {
  return draftFrom(spec);
}

/** Whether the form would start this run again, up to its seed; a draft that names no model takes the run's. */
export function startsAgain(draft: Draft, spec: Spec, strategy: StrategyInfo): boolean {
  const other = draftOf(spec);
  const asked = (from: Draft): string =>
    JSON.stringify(bodyOf({ ...from, model: from.model ?? other.model, values: { ...from.values, seed: '' } }, strategy));
  const whole = !Object.keys(checkDraft(draft, strategy)).length;
  return whole && draft.strategy === other.strategy && asked(draft) === asked(other);
}

/** The form of a spec from elsewhere; what it leaves out is at its default. Raises Error with one sentence. */
export function draftFrom(value: unknown): Draft {
  const draft = newDraft();
  const given = objectOf(value, 'the settings');
  draft.user = textOf(given['user'] ?? '', 'user');
  draft.system = textOf(given['system'] ?? '', 'system');
  if (typeof given['model'] === 'string') draft.model = given['model'];
  const { name, ...params } = objectOf(given['strategy'] ?? { name: draft.strategy }, 'strategy');
  draft.strategy = textOf(name, 'strategy');
  draft.params[draft.strategy] = Object.fromEntries(
    Object.entries(params).map(([param, typed]) => [param, paramOf(typed, `strategy.${param}`)]),
  );
  const flat: Record<string, unknown> = { ...given };
  for (const [field, typed] of Object.entries(objectOf(given['answer'] ?? {}, 'answer'))) flat[`answer.${field}`] = typed;
  for (const { path } of all(undefined)) {
    const typed = flat[path];
    if (typed !== undefined) draft.values[path] = rawOf(typed, path);
  }
  if (given[TRANSITION.path] === '') draft.values[NO_TRANSITION.path] = 'true';
  return draft;
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error(`These settings cannot be read: ${what} must be an object`);
  }
  return value as Record<string, unknown>;
}

function textOf(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new Error(`These settings cannot be read: ${what} must be text`);
  return value;
}

/** A parameter as it is typed: own strategies may take lists and objects. */
function paramOf(value: unknown, what: string): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : rawOf(value, what);
}

/** A JSON value as it is typed. */
function rawOf(value: unknown, what: string): string {
  if (value === null) return '';
  if (typeof value === 'object' || value === undefined) throw new Error(`These settings cannot be read: ${what} must be one value`);
  return String(value);
}

/** A draft that was saved by an earlier visit; null when it is not one. */
export function parseDraft(saved: string | null): Draft | null {
  try {
    const value: unknown = JSON.parse(saved ?? 'null');
    if (typeof value !== 'object' || value === null) return null;
    const from = value as Partial<Draft>;
    const draft = newDraft();
    if (typeof from.system === 'string') draft.system = from.system;
    if (typeof from.user === 'string') draft.user = from.user;
    if (typeof from.strategy === 'string') draft.strategy = from.strategy;
    if (typeof from.model === 'string') draft.model = from.model;
    for (const [path, raw] of Object.entries(from.values ?? {})) {
      if (typeof raw === 'string') draft.values[path] = raw;
    }
    for (const [name, params] of Object.entries(from.params ?? {})) {
      draft.params[name] = Object.fromEntries(Object.entries(params).filter(([, raw]) => typeof raw === 'string'));
    }
    return draft;
  } catch {
    return null;
  }
}
