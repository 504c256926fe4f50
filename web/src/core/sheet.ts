/** A run as a picture: its caption, then columns, transition and answer, in rows of SVG. */

import type { Step } from './events.ts';
import { bare, count, plural } from './format.ts';
import { visible } from './glyphs.ts';
import { escaped, fit, type Font, lines, type Look, n, written } from './ink.ts';
import { tintOf } from './metrics.ts';
import { stepName } from './names.ts';
import { endsLine, isBreak, isChip, shownText } from './readout.ts';
import { isOver, type RunState } from './reducer.ts';
import { isOffTop, probabilityBin, PROBABILITY_BOUNDS, WEIGHT_BOUNDS } from './scale.ts';
import { chipItem, columnItem, HEAD, type Item, pin, type Style } from './sheetItems.ts';

export const WIDTH = 1200;
const EDGE = 24;
const RIGHT = WIDTH - EDGE;
const GAP = 14; // between two rows
const LINE = 31; // of running text
const FOOT = 110; // px kept for the lines that say what is left out and how the run ended
const WORDS = 170; // characters of a sentence in one line

/** A run to draw, with the name that its reader gave it. */
export interface Named {
  run: RunState;
  name: string | null;
}

export interface Sheet {
  parts: string[]; // SVG elements, from 0 down to `height`
  height: number;
  cut: number | null; // the first step that found no room
}

/**
 * The picture of a run, its rows as long as they end below `most` px; what is left out is said. It stops after every
 * row, for a page that has other things to do.
 */
export function* sheet(named: Named, look: Look, style: Style, most = Infinity): Generator<void, Sheet> {
  const page = new Page(named, look, style, most);
  const { run } = named;
  page.header();
  const columns = run.steps.filter(({ phase }) => run.whole || phase !== 'answer');
  const answer = run.steps.slice(columns.length);
  if (columns.length || run.ended.thinking) {
    page.heading(run.whole ? 'Phase 2 – the whole generation, in mixtures' : 'Phase 1 – thinking');
    const reason = (run.whole ? run.ended.answer : run.ended.thinking)?.reason ?? null;
    yield* style.view === 'text' ? page.text(columns, reason) : page.columns(columns, reason);
  }
  if (answer.length) {
    page.heading('Phase 2 – the answer');
    yield* page.text(answer, run.ended.answer?.reason ?? null);
  }
  return page.close();
}

class Page {
  private readonly parts: string[] = [];
  private readonly run: RunState;
  private readonly edited: number | null; // the step that was edited by hand
  private x = EDGE;
  private y = EDGE;
  private cut: number | null = null;

  constructor(
    private readonly named: Named,
    private readonly look: Look,
    private readonly style: Style,
    private readonly most: number,
  ) {
    this.run = named.run;
    const fork = this.run.spec?.fork;
    this.edited = fork?.mixture ? fork.step : null;
  }

  /** What the run is: name, strategy, model, seed; its parameters; its prompt. */
  header(): void {
    const { spec, engine, id } = this.run;
    const said = [this.named.name, spec?.strategy.name, engine?.model ?? spec?.model, spec ? `seed ${spec.seed}` : null, `run ${id}`];
    const room = RIGHT - EDGE;
    this.write(EDGE, this.y + 12, fit(this.look, visible(said.filter(Boolean).join(' · ')), room, 'head'), 'head');
    if (spec) {
      const params = Object.entries(spec.strategy).filter(([name]) => name !== 'name');
      const set = [...params, ['T_e', spec.T_e], ['T_total', spec.T_total], ['temperature', spec.temperature]];
      const words = set.map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
      this.write(EDGE, this.y + 32, fit(this.look, visible(words.join(' · ')), room, 'small'), 'small', this.look.mut);
      this.write(EDGE, this.y + 49, fit(this.look, visible(spec.user.replaceAll('\n', ' ')), room, 'small'), 'small', this.look.mut);
    }
    this.y += 65;
    if (this.style.view === 'text') this.legend(['weight 1', ...PROBABILITY_BOUNDS.map(bare), '0'], this.look.weights);
    else this.legend(['weight 0', ...WEIGHT_BOUNDS.map(bare), '1'], this.look.weights.slice(1));
    const { sign, falling, bounds } = this.style.tint;
    this.legend([`${sign} ${falling ? '1' : ''}`, ...bounds.map(bare), falling ? '0' : ''], this.look.tints);
    this.x = EDGE;
    this.y += 22;
  }

  heading(text: string): void {
    if (this.cut !== null) return;
    this.write(EDGE, this.y + 16, text, 'head');
    this.y += 30;
  }

  /** Columns row by row; forced steps and the reason of the end stand in chips. */
  *columns(steps: readonly Step[], reason: string | null): Generator<void> {
    let row: Placed[] = [];
    const flush = (): void => {
      if (row.length) this.row(row);
      row = [];
      this.x = EDGE;
    };
    const place = (item: Item): boolean => {
      const full = this.x + item.gap + item.width > RIGHT;
      if (full) flush();
      row.push({ item, x: this.x + (row.length ? item.gap : 0) });
      this.x += (row.length > 1 ? item.gap : 0) + item.width;
      return full;
    };
    let forced: Step[] = [];
    const chip = (words: string | null): void => {
      if (forced.length || words) place(chipItem(forced, words, RIGHT - EDGE, this.look, this.style.glyphs, this.edited));
      forced = [];
    };
    let ended = false;
    for (const step of steps) {
      if (this.cut !== null) return;
      const turns = ended && !isBreak(step);
      if (turns) flush();
      ended = false;
      if (step.kind === 'injected') {
        forced.push(step);
        continue;
      }
      if (forced.length) chip(forced[0]?.reason ?? null);
      const full = place(columnItem(step, this.look, this.style, step.step === this.edited));
      ended = endsLine(step) !== null;
      if (turns || full) yield;
    }
    if (ended) flush();
    chip(reason ?? forced[0]?.reason ?? null);
    flush();
  }

  /** Running text, each token on its tint. */
  *text(steps: readonly Step[], reason: string | null): Generator<void> {
    this.x = EDGE;
    for (const step of steps) {
      const before = this.y;
      if (!this.room(step, LINE)) {
        this.y += LINE; // below the last line
        return;
      }
      this.token(step);
      if (this.y !== before) yield;
    }
    if (reason) {
      this.x += 10;
      const width = this.look.measure(reason, 'small');
      if (this.x + width > RIGHT) this.turn();
      this.write(this.x, this.y + 20, fit(this.look, visible(reason), RIGHT - this.x, 'small'), 'small', this.look.mut);
    }
    this.y += LINE + GAP;
  }

  close(): Sheet {
    const { steps } = this.run;
    if (this.cut !== null) {
      this.say(`Steps ${this.cut} to ${steps.length - 1} are left out here; the SVG has all ${count(steps.length)} steps.`);
    }
    const said = outcome(this.run);
    if (said) this.say(said, this.run.status === 'failed' ? this.look.bad : this.look.mut);
    return { parts: this.parts, height: Math.ceil(this.y + EDGE / 2), cut: this.cut };
  }

  private row(row: readonly Placed[]): void {
    const above = Math.max(...row.map(({ item }) => item.above));
    const below = Math.max(...row.map(({ item }) => item.below));
    if (!this.room(row[0]?.item.step ?? null, HEAD + above + below)) return;
    const level = this.style.view === 'stack'; // columns stand on one line there; ladders hang from one
    for (const { item, x } of row) {
      const drawn = item.draw(x, this.y + HEAD + (level ? above - item.above : 0));
      const step = item.step?.kind === 'injected' ? null : item.step; // forced ones name themselves
      this.parts.push(step ? `<g data-step="${step.step}"><title>${escaped(stepName(step))}</title>${drawn}</g>` : drawn);
    }
    this.y += HEAD + above + below + GAP;
  }

  private token(step: Step): void {
    const { look, style } = this;
    const parts: string[] = [];
    const mixed = step.kind === 'mixture';
    const tint = step.kind === 'injected' ? 0 : mixed ? probabilityBin(step.fed[0]?.weight ?? 0) : tintOf(style.tint, step);
    const fill = (mixed ? look.weights : look.tints)[tint];
    const text = visible(shownText(step));
    const chip = isChip(step);
    for (const part of (style.glyphs && !chip ? text.replaceAll(' ', '␣') : text).split(/(\n)/)) {
      if (part === '') continue;
      const shown = part === '\n' ? '↵' : part.replaceAll('\t', '⇥');
      const width = look.measure(shown, 'text');
      if (this.x + width > RIGHT && this.x > EDGE) this.turn();
      if (tint > 0) parts.push(`<rect x="${n(this.x)}" y="${n(this.y + 2)}" width="${n(width)}" height="24" rx="3" fill="${fill}"/>`);
      if (chip) parts.push(`<rect x="${n(this.x)}" y="${n(this.y + 2)}" width="${n(width)}" height="24" rx="4" fill="none" stroke="${look.mut}"/>`);
      parts.push(written(this.x, this.y + 20, shown, 'text', part === '\n' ? look.mut : look.ink, width));
      if (mixed && tint === 0 && this.run.seen.sampled) {
        // a sure mixture is told from a sure token
        parts.push(`<path d="M${n(this.x)} ${n(this.y + 25)}h${n(width)}" stroke="${look.weights[3]}" stroke-width="2"/>`);
      }
      if (step.kind === 'sampled' && (step.token.probability ?? 0) < 0.2) {
        parts.push(`<path d="M${n(this.x)} ${n(this.y + 24.5)}h${n(width)}" stroke="${look.ink}" stroke-width="1.5" stroke-dasharray="1.5 2"/>`);
      }
      if (isOffTop(step) && parts.length) parts.push(written(this.x - 3, this.y + 32, '‸', 'text', look.sampled));
      this.x += width;
      if (part === '\n') this.turn();
    }
    if (step.step === this.edited) parts.push(pin(this.x, this.y + 4, look));
    this.parts.push(`<g data-step="${step.step}"><title>${escaped(stepName(step))}</title>${parts.join('')}</g>`);
  }

  private turn(): void {
    this.x = EDGE;
    this.y += LINE;
  }

  /** Whether so much more height is allowed; notes the first step for which it was not. */
  private room(step: Step | null, height: number): boolean {
    if (this.cut === null && this.y + height + FOOT > this.most) this.cut = step?.step ?? this.run.steps.length;
    return this.cut === null;
  }

  private legend(words: readonly string[], colours: readonly string[]): void {
    words.forEach((word, at) => {
      this.write(this.x, this.y + 10, word, 'small', this.look.mut);
      this.x += this.look.measure(word, 'small') + 5;
      if (at >= colours.length) return;
      this.parts.push(`<rect x="${n(this.x)}" y="${n(this.y)}" width="24" height="12" rx="2" fill="${colours[at]}" stroke="${this.look.line}"/>`);
      this.x += 29;
    });
    this.x += 24;
  }

  private say(sentence: string, colour = this.look.mut): void {
    for (const line of lines(sentence, WORDS).slice(0, 3)) {
      this.write(EDGE, this.y + 16, fit(this.look, line, RIGHT - EDGE, 'small'), 'small', colour);
      this.y += 18;
    }
    this.y += 6;
  }

  private write(x: number, y: number, text: string, font: Font, colour = this.look.ink): void {
    this.parts.push(written(x, y, text, font, colour));
  }
}

interface Placed {
  item: Item;
  x: number;
}

/** What a picture says of a run that is not simply done; null where nothing needs to be said. */
function outcome({ status, steps, error }: RunState): string | null {
  const made = steps.length ? `after ${plural(steps.length, 'step')}` : 'before its first step';
  if (status === 'failed') return `The run failed ${made}: ${error ?? 'it does not say why'}`;
  if (!isOver(status)) return `The run was not over when this picture was made, ${made}.`;
  return steps.length ? null : `The run was ${status === 'cancelled' ? 'stopped' : 'over'} ${made}.`;
}
