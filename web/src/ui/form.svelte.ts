/** The form: the draft of the next run, its checks, what the server said to it. */

import { bodyOf, checkDraft, choose, chooseFresh, type Draft, draftOf, newDraft, parseDraft, startsAgain } from '../core/draft.ts';
import type { Spec, StrategyInfo } from '../core/events.ts';
import { type Field, fieldsOf } from '../core/form.ts';
import { FIRST } from '../core/presets.ts';
import { draftOfFragment, isShared } from '../core/share.ts';
import { get, Problem } from './api.ts';

const KEY = 'superpose.draft';

class Form {
  draft = $state<Draft>(parseDraft(localStorage.getItem(KEY)) ?? { ...newDraft(), user: FIRST });
  strategies = $state.raw<StrategyInfo[]>([]);
  /** Sentences of the server, by field; gone as soon as the field is changed. */
  refused = $state<Record<string, string>>({});
  /** What was put on the form in place of what was there, which `back` brings back. */
  filled = $state.raw<{ from: string; back: Draft } | null>(null);
  /** The settings of the run that the address named, where the form has a draft of its reader's instead. */
  linked = $state.raw<Spec | null>(null);
  /** Why nothing could be put on it. */
  unread = $state<string | null>(null);
  /** After the first try every fault is shown, not only those of fields with text. */
  tried = $state(false);
  /** What the form shows that nobody typed, as it is saved; null once there is a draft of its reader's. */
  private given = localStorage.getItem(KEY) === null ? JSON.stringify(this.draft) : null;

  readonly strategy = $derived(this.find(this.draft.strategy));
  readonly fields = $derived<Field[]>(this.strategy ? fieldsOf(this.strategy.schema.properties ?? {}) : []);
  readonly faults = $derived(checkDraft(this.draft, this.strategy));

  async loadStrategies(): Promise<void> {
    try {
      this.strategies = await get<StrategyInfo[]>('/api/strategies');
      if (!this.strategy) this.unknown();
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
    const draft = $state.snapshot(this.draft);
    chooseFresh(draft, name);
    this.use(draft, `the defaults of ${name}`);
  }

  /** Keeps the draft for the next visit, as soon as it is its reader's: typed, chosen or run. */
  save(): void {
    const draft = JSON.stringify(this.draft);
    if (draft === this.given && !this.tried) return;
    this.given = null;
    localStorage.setItem(KEY, draft);
  }

  /** Meets the run that the address named: its settings fill a form that is nobody's, and are offered beside a draft. */
  meet(spec: Spec): void {
    if (this.given !== null && JSON.stringify(this.draft) === this.given) {
      this.use(draftOf(spec), 'the run of this page');
      this.given = JSON.stringify(this.draft);
    } else if (!this.strategy || !startsAgain(this.draft, spec, this.strategy)) this.linked = spec;
  }

  /** Puts a draft on the form; what was there can be brought back. */
  use(draft: Draft, from: string): void {
    this.filled = { from, back: $state.snapshot(this.draft) };
    this.linked = null;
    this.put(draft);
    if (this.strategies.length && !this.strategy) this.unknown();
  }

  /** Fills the form from the settings in the address, if it has some; nothing runs by itself. */
  async readLink(): Promise<void> {
    const { hash, pathname, search } = location;
    if (!isShared(hash)) return;
    history.replaceState(null, '', pathname + search);
    try {
      this.use(await draftOfFragment(hash), 'the link');
    } catch (error) {
      this.unread = error instanceof Error ? error.message : String(error);
    }
  }

  /** Brings back what was on the form before it was filled. */
  undo(): void {
    if (this.filled) this.put(this.filled.back);
    this.filled = null;
  }

  private put(draft: Draft): void {
    this.draft = draft;
    this.refused = {};
    this.unread = null;
  }

  /** The server has no such strategy: says so, and takes the first that it has. */
  private unknown(): void {
    const { strategy } = this.draft;
    this.draft.strategy = this.strategies[0]?.name ?? strategy;
    this.unread = `This server has no strategy ${strategy}; ${this.draft.strategy} is chosen instead`;
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
    this.linked = null;
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
