/** What a reader asks of a running or recorded run: which event answers, what a branch goes on with, how it is told. */

import { advanced, type Draft, GENERAL, TRANSITION, typed, typedParam } from './draft.ts';
import type { Fork, RunEvent, Spec, Step, StrategyInfo } from './events.ts';
import { checkField, type Field, fieldsOf, valueOf } from './form.ts';
import { glyphs } from './glyphs.ts';
import type { RunState } from './reducer.ts';

/** Asked of the server by its name. */
export type Ask = 'pause' | 'resume' | 'step' | 'cancel';
/** What was asked of the server and not yet answered by an event. */
export type Pending = 'nothing' | 'waiting' | 'sending' | Ask;

const ENDS: readonly RunEvent['type'][] = ['run_finished', 'run_cancelled', 'run_failed'];
const ANSWERS: Partial<Record<Pending, readonly RunEvent['type'][]>> = {
  pause: ['run_paused', ...ENDS],
  resume: ['run_resumed', ...ENDS],
  step: ['step', 'run_resumed', ...ENDS],
  cancel: ENDS,
};

/** Whether an event is what was waited for. */
export function answers(event: RunEvent, pending: Pending): boolean {
  return ANSWERS[pending]?.includes(event.type) ?? false;
}

/** Whether a run is already as was asked for when the server takes the wish: then no event need follow. */
export function fulfilled(ask: Ask, status: RunState['status']): boolean {
  return ask === 'pause' ? status === 'paused' : ask === 'resume' && (status === 'running' || status === 'queued');
}

/** The fields of a run that a branch with its settings may still change. */
export const OWN: readonly Field[] = GENERAL.filter(({ path }) => path !== 'temperature');

/** A run's own settings as they are typed. */
export function ownOf(spec: Spec): Record<string, string> {
  return { T_e: String(spec.T_e), T_total: String(spec.T_total), seed: String(spec.seed) };
}

/** What was typed over a run's own settings, for the body of a fork; null while a field has a fault. */
export function changesOf(spec: Spec, own: Record<string, string>): Record<string, unknown> | null {
  const before = ownOf(spec);
  const changed = OWN.filter(({ path }) => own[path] !== before[path]);
  if (changed.some((field) => checkField(field, own[field.path] ?? ''))) return null;
  return Object.fromEntries(changed.map((field) => [field.path, valueOf(field, own[field.path] ?? '')]));
}

/** All settings of the form, for the body of a fork. Prompts and model stay the parent's; so does a seed left empty. */
export function settingsOf(draft: Draft, strategy: StrategyInfo): Record<string, unknown> {
  const params = fieldsOf(strategy.schema.properties ?? {});
  const chosen = Object.fromEntries(params.map((field) => [field.label, valueOf(field, typedParam(draft, field))]));
  const answer: Record<string, unknown> = {};
  const settings: Record<string, unknown> = { strategy: { name: strategy.name, ...chosen }, answer };
  for (const field of [...GENERAL, ...advanced(strategy), TRANSITION]) {
    const value = valueOf(field, typed(draft, field));
    if (field.path.startsWith('answer.')) answer[field.path.slice('answer.'.length)] = value;
    else settings[field.path] = value;
  }
  if (settings['seed'] === null) delete settings['seed'];
  if (!strategy.thinks) settings['T_e'] = Math.min(Number(settings['T_e']), Number(settings['T_total']));
  return settings;
}

/** What was changed at the step where a run was branched off: "␣think forced"; "" for nothing. */
export function editWords({ mixture }: Fork, step: Step | null): string {
  if (!mixture) return '';
  if (mixture.ids.length > 1) return 'weights edited';
  return step ? `${glyphs(step.token.text)} forced` : 'a token forced';
}

/** Seconds of a countdown: 4:32. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
