/** The whole drawing of a run, kept level with its state: append only, no step is ever drawn twice. */

import type { Step } from '../core/events.ts';
import type { Metric } from '../core/metrics.ts';
import type { RunState } from '../core/reducer.ts';
import { AnswerStream, ThinkingStream } from './streams.ts';

const SLICE = 32; // steps between two looks at the clock
const TINTED = 500; // tokens that take another tint in one frame

/** Anything else that draws steps: the timeline, its table. */
export interface Follower {
  append(steps: readonly Step[]): void;
  clear(): void;
}

export class Picture {
  readonly thinking = new ThinkingStream();
  readonly answer = new AnswerStream();
  readonly elements: HTMLElement[] = []; // by step
  private readonly followers = new Set<Follower>();
  private steps: readonly Step[] = [];
  private painted = 0;
  private closed = { thinking: false, answer: false };
  private marked: Record<'sel' | 'hov', HTMLElement | null> = { sel: null, hov: null };

  /** Draws what is new, for about `budget` ms; true when there is more to draw. */
  paint(run: RunState, budget: number): boolean {
    const deadline = performance.now() + budget;
    this.steps = run.steps;
    while (this.painted < run.steps.length) {
      const end = run.ended.thinking;
      if (end && !this.closed.thinking && this.painted >= end.at) this.closeThinking(run);
      const until = end && !this.closed.thinking ? end.at : run.steps.length;
      const slice = run.steps.slice(this.painted, Math.min(until, this.painted + SLICE));
      this.draw(slice, run.whole);
      this.painted += slice.length;
      if (performance.now() > deadline && this.painted < run.steps.length) return true;
    }
    if (run.ended.thinking && !this.closed.thinking) this.closeThinking(run);
    if (run.ended.answer && !this.closed.answer) {
      this.closed.answer = true;
      (run.whole ? this.thinking : this.answer).end(run.ended.answer);
    }
    return false;
  }

  /** How many steps are on the page. */
  get length(): number {
    return this.painted;
  }

  step(index: number): Step | null {
    return index < this.painted ? (this.steps[index] ?? null) : null;
  }

  /** Adds a drawing that gets every step, those of the past included. */
  follow(follower: Follower): () => void {
    follower.clear();
    follower.append(this.steps.slice(0, this.painted));
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }

  select(step: number | null): void {
    const before = this.marked.sel;
    this.mark('sel', step);
    before?.removeAttribute('aria-selected');
    this.marked.sel?.setAttribute('aria-selected', 'true');
    if (this.marked.sel) this.streamOf(this.marked.sel)?.tabTo(this.marked.sel);
  }

  /** Tints answer tokens by a metric: those to come at once, those on the page a slice a frame. */
  tint(metric: Metric): void {
    if (metric === this.answer.metric) return;
    this.answer.metric = metric;
    this.retint(metric, 0);
  }

  hover(step: number | null): void {
    this.mark('hov', step);
  }

  streamOf(element: Element): ThinkingStream | AnswerStream | null {
    if (this.thinking.root.contains(element)) return this.thinking;
    return this.answer.root.contains(element) ? this.answer : null;
  }

  clear(): void {
    this.thinking.clear();
    this.answer.clear();
    this.elements.length = this.painted = 0;
    this.steps = [];
    this.closed = { thinking: false, answer: false };
    this.marked = { sel: null, hov: null };
    for (const follower of this.followers) follower.clear();
  }

  private draw(slice: readonly Step[], whole: boolean): void {
    if (this.painted === 0) this.thinking.name(whole ? 'Generation, step by step' : 'Thinking, step by step');
    const first = whole ? -1 : slice.findIndex(({ phase }) => phase === 'answer');
    const border = first < 0 ? slice.length : first;
    this.thinking.append(slice.slice(0, border), this.elements);
    this.answer.append(slice.slice(border), this.elements);
    for (const follower of this.followers) follower.append(slice);
  }

  private closeThinking(run: RunState): void {
    this.closed.thinking = true;
    if (run.ended.thinking) this.thinking.end(run.ended.thinking);
  }

  private retint(metric: Metric, from: number): void {
    if (metric !== this.answer.metric) return; // another one was chosen meanwhile
    const until = Math.min(this.painted, from + TINTED);
    for (let at = from; at < until; at++) {
      const [step, element] = [this.steps[at], this.elements[at]];
      if (step && element) this.answer.retint(element, step);
    }
    if (until < this.painted) requestAnimationFrame(() => this.retint(metric, until));
  }

  private mark(name: 'sel' | 'hov', step: number | null): void {
    const element = step === null ? null : (this.elements[step] ?? null);
    if (element === this.marked[name]) return;
    this.marked[name]?.classList.remove(name);
    element?.classList.add(name);
    this.marked[name] = element;
  }
}
