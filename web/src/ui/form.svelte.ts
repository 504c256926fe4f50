/** The form: the draft of the next run, its checks, what the server said to it. */

import { bodyOf, checkDraft, choose, chooseFresh, type Draft, newDraft, parseDraft } from '../core/draft.ts';
import type { StrategyInfo } from '../core/events.ts';
import { type Field, fieldsOf } from '../core/form.ts';
import { get, Problem } from './api.ts';

const KEY = 'superpose.draft';
export const EXAMPLES = [
  'What is 25 + 17? Explain briefly.',
  'A train leaves at 14:35 and arrives at 17:10. How long is the ride?',
  'Which is larger, 9.11 or 9.9? Give a reason.',
];

class Form {
  draft = $state<Draft>(parseDraft(localStorage.getItem(KEY)) ?? { ...newDraft(), user: EXAMPLES[0] ?? '' });
  strategies = $state.raw<StrategyInfo[]>([]);
  /** Sentences of the server, by field; gone as soon as the field is changed. */
  refused = $state<Record<string, string>>({});
  /** After the first try every fault is shown, not only those of fields with text. */
  tried = $state(false);

  readonly strategy = $derived(this.find(this.draft.strategy));
  readonly fields = $derived<Field[]>(this.strategy ? fieldsOf(this.strategy.schema.properties ?? {}) : []);
  readonly faults = $derived(checkDraft(this.draft, this.strategy));

  async loadStrategies(): Promise<void> {
    try {
      this.strategies = await get<StrategyInfo[]>('/api/strategies');
      if (!this.strategy) this.draft.strategy = this.strategies[0]?.name ?? this.draft.strategy;
    } catch (error) {
      this.refused = { '': error instanceof Problem ? error.message : String(error) };
    }
  }

  find(name: string | undefined): StrategyInfo | undefined {
    return this.strategies.find((strategy) => strategy.name === name);
  }

  choose(name: string): void {
    choose(this.draft, this.strategy, name);
    this.edited('strategy');
  }

  /** A strategy with its own defaults, whatever was typed for it before. */
  tryOut(name: string): void {
    chooseFresh(this.draft, name);
    this.refused = {};
  }

  save(): void {
    localStorage.setItem(KEY, JSON.stringify(this.draft));
  }

  use(draft: Draft): void {
    this.draft = draft;
    this.refused = {};
  }

  /** What is wrong with a field, as one sentence. */
  complaint(path: string): string | null {
    const fault = path === 'user' && !this.tried ? null : this.faults[path];
    return this.refused[path] ?? fault ?? null;
  }

  edited(path: string): void {
    if (path in this.refused) {
      const { [path]: _, ...others } = this.refused;
      this.refused = others;
    }
  }

  /** The body for the server; null while the form has faults. */
  body(): Record<string, unknown> | null {
    this.tried = true;
    this.refused = {};
    return this.strategy && !Object.keys(this.faults).length ? bodyOf(this.draft, this.strategy) : null;
  }

  /** Puts a refusal at the field that it names, else at the button. */
  refuse(problem: Problem): void {
    const path = problem.field ?? '';
    this.refused = { [this.has(path) ? path : '']: problem.message };
  }

  private has(path: string): boolean {
    const shown = ['system', 'user', 'strategy', 'T_e', 'T_total', 'temperature', 'seed', 'transition', 'end_probability'];
    return shown.includes(path) || path.startsWith('answer.') || this.fields.some((field) => field.path === path);
  }
}

export const form = new Form();
