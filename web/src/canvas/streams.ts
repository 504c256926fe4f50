/** The two streams of a run: thinking as columns, the answer as running text. */

import type { Step } from '../core/events.ts';
import { type Metric, METRICS, tintOf } from '../core/metrics.ts';
import type { PhaseEnd } from '../core/reducer.ts';
import { endsLine, isBreak, isOpenPiece } from '../core/readout.ts';
import { Blocks } from './blocks.ts';
import { el } from './dom.ts';
import { column, forced, token } from './step.ts';

/** What both have in common: a list of steps of which one at a time is a tab stop. */
abstract class Stream {
  readonly root = el('div');
  protected abstract readonly blocks: Blocks;
  private stop: HTMLElement | null = null;
  private pieces: HTMLElement[] = [];

  constructor(name: string, className: string) {
    this.root.className = className;
    this.root.setAttribute('role', 'listbox');
    this.root.setAttribute('aria-label', name);
    this.root.setAttribute('aria-orientation', 'horizontal');
    this.root.hidden = true;
  }

  /** Makes an element the one that Tab reaches. */
  tabTo(element: HTMLElement): void {
    if (this.stop) this.stop.tabIndex = -1;
    element.tabIndex = 0;
    this.stop = element;
  }

  clear(): void {
    this.blocks.clear();
    this.root.hidden = true;
    this.stop = null;
    this.pieces = [];
  }

  /** What a screen reader calls the list. */
  name(name: string): void {
    this.root.setAttribute('aria-label', name);
  }

  protected made(element: HTMLElement, step: Step): void {
    if (!this.stop) {
      this.root.hidden = false;
      this.tabTo(element);
    }
    if (isOpenPiece(step)) this.pieces.push(element);
    else if (this.pieces.length) {
      for (const piece of [...this.pieces, element]) piece.classList.add('joined');
      this.pieces = [];
    }
  }
}

export class ThinkingStream extends Stream {
  protected readonly blocks = new Blocks(this.root, 96, 256);
  private gate: HTMLElement | null = null;
  private tokens: HTMLElement | null = null;
  private reason = '';
  private ended: 'line' | 'paragraph' | null = null; // how the row ended, until what is no line break begins the next
  private noise = 0; // of the column before

  constructor() {
    super('Thinking, step by step', 'thinking');
  }

  append(steps: readonly Step[], elements: HTMLElement[]): void {
    for (const step of steps) {
      const element = step.kind === 'injected' ? this.force(step) : this.column(step);
      this.made(element, step);
      elements[step.step] = element;
    }
  }

  /** Closes thinking with the reason in words; forced tokens follow into the same chip. */
  end({ reason, ended_by }: PhaseEnd): void {
    this.reason = reason ?? ''; // an imported run may not tell
    this.openGate(ended_by === 'cancelled' ? '■' : null, this.reason);
  }

  override clear(): void {
    super.clear();
    this.gate = this.tokens = null;
    this.reason = '';
    this.ended = null;
    this.noise = 0;
  }

  private column(step: Step): HTMLElement {
    if (!isBreak(step)) this.turn();
    const noise = step.noise ?? 0;
    const element = column(step, noise === 0 ? null : noise === this.noise ? 'mark' : 'words');
    this.blocks.add(element);
    this.ended = endsLine(step) ?? this.ended;
    this.noise = noise;
    this.gate = this.tokens = null; // tokens forced later have a chip of their own
    this.reason = '';
    return element;
  }

  /** Begins a new row, where the last one has ended. */
  private turn(): void {
    this.blocks.cut(this.ended);
    if (this.ended) this.noise = 0; // a new row says it anew
    this.ended = null;
  }

  private force(step: Step): HTMLElement {
    const first = this.tokens === null;
    if (!this.gate) this.openGate(null, step.reason ?? '');
    if (!this.tokens) {
      this.tokens = el('span', 'tokens');
      this.gate?.prepend(this.tokens);
    }
    const element = forced(step, first && this.reason ? `because ${this.reason}` : null);
    this.tokens.append(element);
    return element;
  }

  private openGate(sign: string | null, reason: string): void {
    this.turn();
    this.gate = el('div', 'gate');
    if (sign) this.gate.append(el('span', 'sign', sign));
    this.gate.append(el('small', 'reason', reason));
    this.tokens = null;
    this.blocks.add(this.gate);
    this.root.hidden = false;
  }
}

export class AnswerStream extends Stream {
  /** What tokens are tinted by. */
  metric: Metric = METRICS.probability;
  protected readonly blocks = new Blocks(this.root, 1000, 1000);

  constructor() {
    super('Answer, step by step', 'answer');
  }

  append(steps: readonly Step[], elements: HTMLElement[]): void {
    for (const step of steps) {
      const element = token(step, tintOf(this.metric, step));
      this.blocks.add(element);
      this.blocks.cut(endsLine(step));
      this.made(element, step);
      elements[step.step] = element;
    }
  }

  /** Gives a token that was drawn before the tint that it would be drawn with now. */
  retint(element: HTMLElement, step: Step): void {
    if (element.classList.contains('t')) element.className = element.className.replace(/\bq\d\b/, `q${tintOf(this.metric, step)}`);
  }

  /** Closes the answer with the reason in words. */
  end({ reason }: PhaseEnd): void {
    this.blocks.add(el('small', 'reason gate', reason));
    this.root.hidden = false;
  }
}
