/** A comparison as the address and the tables hold it: what is run in each pane, under which settings. */

import { advanced, type Draft, draftOf, GENERAL, newDraft, parseDraft, TRANSITION, typed, typedParam } from './draft.ts';
import type { Spec, StrategyInfo } from './events.ts';
import { type Field, fieldsOf, valueOf } from './form.ts';
import { isView, type View } from './route.ts';
import type { By } from './repeats.ts';

export const MOST_PANES = 4;
export const MOST_REPEATS = 64;

/** What is to be run: one prompt and seed, and what each pane does with them. */
export interface Plan {
  model: string | null;
  system: string;
  user: string;
  seed: string; // as typed; "" = a fresh one
  repeats: number;
  panes: Draft[]; // their own prompt, model and seed do not count
}

/** What the address names: runs by pane, the one whose steps are shown first, and what of the plan is not run yet. */
export interface Address {
  runs: string[][]; // none for a pane of the plan that was not run
  plan: Plan | null;
  reference: number; // the pane that the others are compared with
  step: number | null;
  view: View | null;
  by: By;
}

const NONE = '-'; // a pane without a run

/** `/compare?runs=a,b&ref=b&step=7`, repeats joined by dots; `#{"user":…}` where something is not run yet. */
export function addressOf({ runs, plan, reference, step, view, by }: Address): string {
  const query: string[] = [];
  const listed = runs.map((pane) => pane.map(encodeURIComponent).join('.') || NONE);
  if (listed.some((pane) => pane !== NONE)) query.push(`runs=${listed.join(',')}`);
  if (reference > 0) query.push(`ref=${encodeURIComponent(runs[reference]?.[0] ?? reference)}`);
  if (step !== null) query.push(`step=${step}`);
  if (view !== null) query.push(`view=${view}`);
  if (by !== 'text') query.push(`by=${by}`);
  const search = query.length ? `?${query.join('&')}` : '';
  return `/compare${search}${plan ? `#${encodeURIComponent(JSON.stringify(compact(plan)))}` : ''}`;
}

export function parseAddress(url: URL): Address {
  const given = url.searchParams;
  const plan = parsePlan(url.hash.slice(1));
  const listed = (given.get('runs') ?? '').split(',').filter((pane) => (plan ? pane : pane.replaceAll(NONE, '')));
  const runs = listed.map((pane) => (pane === NONE ? [] : [...new Set(pane.split('.').filter(Boolean))])).slice(0, MOST_PANES);
  const ref = given.get('ref');
  const named = runs.findIndex((pane) => pane.includes(ref ?? ''));
  const numbered = ref !== null && Number(ref) < (plan?.panes.length ?? 0) ? Number(ref) : 0;
  const step = given.get('step');
  const view = given.get('view');
  return {
    runs: runs.map((pane) => pane.slice(0, MOST_REPEATS)),
    plan,
    reference: named >= 0 ? named : numbered,
    step: step !== null && /^\d{1,9}$/.test(step) ? Number(step) : null,
    view: isView(view) ? view : null,
    by: given.get('by') === 'number' ? 'number' : 'text',
  };
}

/** What a pane would run under a plan. */
export function drafted(pane: Draft, { model, system, user, seed }: Plan): Draft {
  return { ...pane, model, system, user, values: { ...pane.values, seed } };
}

/** A draft's own part: its strategy with its parameters, and what was typed beside the seed. */
function compact(plan: Plan): unknown {
  const panes = plan.panes.map(({ strategy, params, values: { seed: _, ...values } }) => ({
    strategy, params: { [strategy]: params[strategy] ?? {} }, values,
  }));
  return { ...plan, panes };
}

function parsePlan(fragment: string): Plan | null {
  try {
    const given: unknown = JSON.parse(decodeURIComponent(fragment));
    if (typeof given !== 'object' || given === null) return null;
    const { panes, seed, repeats, ...prompt } = given as Record<string, unknown>;
    const shared = parseDraft(JSON.stringify(prompt)) ?? newDraft();
    const drafts = (Array.isArray(panes) ? panes : []).map((pane) => parseDraft(JSON.stringify(pane)));
    const times = Number(repeats);
    return {
      model: shared.model,
      system: shared.system,
      user: shared.user,
      seed: typeof seed === 'string' ? seed : '',
      repeats: Number.isInteger(times) && times >= 1 && times <= MOST_REPEATS ? times : 1,
      panes: drafts.filter((draft) => draft !== null).slice(0, MOST_PANES),
    };
  } catch {
    return null;
  }
}

/** A setting's path and what it is in each pane; null where a pane has no such setting. */
export interface Setting {
  path: string;
  values: (string | null)[];
  differs: boolean;
}

/** Every setting of a spec by its path, as text: `strategy.k`, `answer.top_p`. */
export function settingsOf(spec: Spec): Map<string, string> {
  const flat = new Map<string, string>();
  const walk = (value: unknown, path: string): void => {
    if (Array.isArray(value) || typeof value !== 'object' || value === null) flat.set(path, said(value));
    else for (const [key, inner] of Object.entries(value)) walk(inner, path ? `${path}.${key}` : key);
  };
  walk(spec, '');
  return flat;
}

/** The same of a draft. */
export function settingsOfDraft(draft: Draft, strategy: StrategyInfo): Map<string, string> {
  const flat = new Map([['model', said(draft.model)], ['system', draft.system], ['user', draft.user]]);
  const value = (field: Field, raw: string): string => said(valueOf(field, raw));
  flat.set('strategy.name', draft.strategy);
  for (const field of fieldsOf(strategy.schema.properties ?? {})) flat.set(field.path, value(field, typedParam(draft, field)));
  for (const field of [...GENERAL, ...advanced(strategy), TRANSITION]) flat.set(field.path, value(field, typed(draft, field)));
  return flat;
}

/** One row a setting, in the order in which the panes have them. */
export function settingRows(panes: readonly Map<string, string>[]): Setting[] {
  const paths = [...new Set(panes.flatMap((pane) => [...pane.keys()]))];
  const order = ['strategy', 'T_e', 'T_total', 'temperature', 'seed'];
  const place = (path: string): number => {
    const at = order.indexOf(path.split('.')[0] ?? '');
    return at < 0 ? order.length : at;
  };
  return paths
    .sort((a, b) => place(a) - place(b))
    .map((path) => {
      const values = panes.map((pane) => pane.get(path) ?? null);
      return { path, values, differs: values.some((value) => value !== values[0]) };
    });
}

/** What makes another run another question, not another strategy. */
export function unlike(a: Spec, b: Spec): string[] {
  const found: string[] = [];
  if (a.user !== b.user || a.system !== b.system) found.push('prompt');
  if (a.seed !== b.seed) found.push('seed');
  if (a.model !== b.model) found.push('model');
  return found;
}

/** The plan that would run these specs again; prompt, model and seed are the first one's. */
export function planOf(specs: readonly Spec[], repeats: number): Plan {
  const [first] = specs;
  return {
    model: first?.model ?? null,
    system: first?.system ?? '',
    user: first?.user ?? '',
    seed: first ? String(first.seed) : '',
    repeats,
    panes: specs.map(draftOf),
  };
}

function said(value: unknown): string {
  return value === null || value === undefined || value === '' ? '–' : typeof value === 'string' ? value : JSON.stringify(value);
}
