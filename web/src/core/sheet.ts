/** A run as one picture that needs nothing else: columns, transition and answer, as an SVG document. */

import type { Step } from './events.ts';
import { bare, count } from './format.ts';
import { hasGap, label, visible } from './glyphs.ts';
import { type Metric, tintOf } from './metrics.ts';
import { stepName } from './names.ts';
import { endsLine, isChip, shownText } from './readout.ts';
import type { RunState } from './reducer.ts';
import { cells, entropyShare, isOffTop, probabilityBin, STACK, WEIGHT_BOUNDS } from './scale.ts';

export const WIDTH = 1200;
const EDGE = 24;
const RIGHT = WIDTH - EDGE;
const HEAD = 20; // px above a column, for its readout
const GAP = 14; // between two rows
const WIDEST = 94; // a column
const SEPARATED = 3; // px, a cell of this height can spare one for the line above it
const LINE = 31; // of the answer
const CHIP = 92; // height of the transition

/** The page's colours and fonts, and how wide its texts are. */
export interface Look {
  ink: string;
  mut: string;
  line: string;
  edge: string;
  bg: string;
  mixture: string;
  sampled: string;
  weights: readonly string[]; // five, from the faint one on
  tints: readonly string[];
  mono: string;
  sans: string;
  measure(text: string, font: Font): number;
}

export type Font = keyof typeof FONTS;
export const FONTS = {
  rep: { size: 13, weight: 600, family: 'mono' },
  cell: { size: 10.5, weight: 400, family: 'mono' },
  small: { size: 11.5, weight: 400, family: 'sans' },
  head: { size: 14, weight: 600, family: 'sans' },
  text: { size: 16, weight: 400, family: 'sans' },
} as const;

export interface Picture {
  svg: string;
  height: number;
}

/** The steps so far, tinted by a metric. Rows that would end below `most` px are left out, and a line says so. */
export function sheet(run: RunState, look: Look, tint: Metric, most = Infinity): Picture {
  const page = new Page(run, look, tint, most);
  page.header();
  const columns = run.steps.filter(({ phase }) => run.whole || phase !== 'answer');
  const answer = run.steps.slice(columns.length);
  if (columns.length || run.ended.thinking) {
    page.heading(run.whole ? 'Phase 2 – the whole generation, in mixtures' : 'Phase 1 – thinking');
    page.columns(columns, (run.whole ? run.ended.answer : run.ended.thinking)?.reason ?? null);
  }
  if (answer.length) {
    page.heading('Phase 2 – the answer');
    page.text(answer, run.ended.answer?.reason ?? null);
  }
  return page.close();
}

class Page {
  private readonly parts: string[] = [];
  private x = EDGE;
  private y = EDGE;
  private cut: number | null = null; // the first step that found no room

  constructor(
    private readonly run: RunState,
    private readonly look: Look,
    private readonly tint: Metric,
    private readonly most: number,
  ) {}

  header(): void {
    const { spec, engine, id } = this.run;
    const said = [spec?.strategy.name, engine?.model ?? spec?.model, spec ? `seed ${spec.seed}` : null, `run ${id}`];
    this.write(EDGE, this.y + 12, said.filter(Boolean).join(' · '), 'head');
    this.write(EDGE, this.y + 32, this.fit(visible((spec?.user ?? '').replaceAll('\n', ' ')), RIGHT - EDGE, 'small'), 'small', this.look.mut);
    this.y += 48;
    this.legend(['weight 0', ...WEIGHT_BOUNDS.map(bare), '1'], this.look.weights.slice(1));
    const { sign, falling, bounds } = this.tint;
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
  columns(steps: readonly Step[], reason: string | null): void {
    let row: Placed[] = [];
    const flush = (): void => {
      if (row.length) this.row(row);
      row = [];
      this.x = EDGE;
    };
    const place = (item: Item): void => {
      if (this.x + item.gap + item.width > RIGHT) flush();
      row.push({ item, x: this.x + (row.length ? item.gap : 0) });
      this.x += (row.length > 1 ? item.gap : 0) + item.width;
    };
    let forced: Step[] = [];
    const chip = (words: string | null): void => {
      if (forced.length || words) place(this.chip(forced, words));
      forced = [];
    };
    for (const step of steps) {
      if (step.kind === 'injected') forced.push(step);
      else {
        if (forced.length) chip(forced[0]?.reason ?? null);
        place(this.column(step));
        if (endsLine(step)) flush();
      }
    }
    chip(reason ?? forced[0]?.reason ?? null);
    flush();
  }

  /** Running text, each token on its tint. */
  text(steps: readonly Step[], reason: string | null): void {
    this.x = EDGE;
    for (const step of steps) {
      if (!this.room(step, LINE)) return;
      this.token(step);
    }
    if (reason) {
      this.x += 10;
      const width = this.look.measure(reason, 'small');
      if (this.x + width > RIGHT) this.turn();
      this.write(this.x, this.y + 20, reason, 'small', this.look.mut);
    }
    this.y += LINE + GAP;
  }

  close(): Picture {
    if (this.cut !== null) {
      const last = this.run.steps.length - 1;
      this.write(EDGE, this.y + 16, `Steps ${this.cut} to ${last} are left out here; the SVG has all ${count(last + 1)} steps.`, 'small', this.look.mut);
      this.y += 24;
    }
    const height = Math.ceil(this.y + EDGE / 2);
    const { bg, mono, sans } = this.look;
    const fonts = Object.entries(FONTS).map(([name, { size, weight, family }]) => {
      return `.${name}{font:${weight} ${size}px ${family === 'mono' ? mono : sans}}`;
    });
    const svg = [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">`,
      `<style>${escaped(`text{white-space:pre}${fonts.join('')}`)}</style>`,
      `<rect width="${WIDTH}" height="${height}" fill="${bg}"/>`,
      ...this.parts,
      '</svg>',
    ].join('\n');
    return { svg, height };
  }

  private column(step: Step): Item {
    const { look } = this;
    const text = shownText(step);
    const name = isChip(step) ? visible(text) : label(text);
    const width = Math.min(WIDEST, Math.max(22, look.measure(name, 'rep') + 6));
    const drawn = cells(step);
    const up = drawn.filter(({ weight }) => weight >= 0).reduce((sum, { height }) => sum + height, 0);
    const down = drawn.filter(({ weight }) => weight < 0).reduce((sum, { height }) => sum + height, 0);
    const tone = step.kind === 'sampled' ? look.tints[tintOf(this.tint, step)] : null;
    return {
      step, width, gap: hasGap(text) ? 7 : 1, above: Math.max(STACK, up), below: down + 6,
      draw: (x, top) => {
        const parts = [this.written(x + 3, top - 6, this.fit(name, width - 5, 'rep') + (isOffTop(step) ? '‸' : ''), 'rep')];
        const zero = top + Math.max(STACK, up);
        let [at, under] = [top, zero];
        for (const { weight, height, bin, labelled, text: candidate } of drawn) {
          const y = weight < 0 ? under : at;
          if (weight < 0) under += height;
          else at += height;
          const striped = weight < 0 || candidate === null ? ` stroke="${look.edge}" stroke-dasharray="2 2" stroke-width=".5"` : '';
          const edge = step.kind === 'sampled' ? ` stroke="${look.tints[3]}"` : striped;
          parts.push(`<rect x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}" fill="${tone ?? look.weights[bin]}"${edge}/>`);
          if (y > top && height >= SEPARATED) parts.push(`<path d="M${n(x)} ${n(y + 0.5)}h${n(width)}" stroke="${look.bg}"/>`);
          if (labelled && candidate !== null) parts.push(this.written(x + 3, y + 11, this.fit(label(candidate), width - 4, 'cell'), 'cell'));
        }
        if (down > 0) parts.push(`<path d="M${n(x)} ${n(zero)}h${n(width)}" stroke="${look.ink}" stroke-width="2"/>`);
        const tick = step.kind === 'sampled' ? look.sampled : look.mixture;
        parts.push(`<rect x="${n(x)}" y="${n(zero + down + 2)}" width="${n(width * entropyShare(step.entropy))}" height="3" rx="1.5" fill="${tick}"/>`);
        return parts.join('');
      },
    };
  }

  private chip(forced: readonly Step[], reason: string | null): Item {
    const { look } = this;
    const names = forced.map((step) => (isChip(step) ? visible(shownText(step)) : label(shownText(step))));
    const widths = names.map((name) => look.measure(name, 'rep') + 10);
    const words = reason === null ? [] : lines(reason, 34);
    const tokens = widths.reduce((sum, width) => sum + width + 3, 0);
    const width = Math.min(RIGHT - EDGE, Math.max(tokens, ...words.map((line) => look.measure(line, 'small'))) + 24);
    return {
      step: forced[0] ?? null, width, gap: 10, above: CHIP - HEAD, below: 6,
      draw: (x, top) => {
        const parts = [`<rect x="${n(x)}" y="${n(top - HEAD)}" width="${n(width)}" height="${CHIP}" rx="6" fill="none" stroke="${look.edge}" stroke-dasharray="4 3"/>`];
        let [at, y] = [x + 12, top + 14];
        forced.forEach((step, index) => {
          const wide = widths[index] ?? 0;
          parts.push(
            `<g data-step="${step.step}"><title>${escaped(stepName(step))}</title><rect x="${n(at)}" y="${n(y - 16)}" width="${n(wide)}" height="22" rx="4" fill="none" stroke="${look.line}"/>`,
            this.written(at + 5, y, names[index] ?? '', 'rep'),
            '</g>',
          );
          at += wide + 3;
        });
        if (forced.length) y += 24;
        for (const line of words) {
          parts.push(this.written(x + 12, y, line, 'small', look.mut));
          y += 15;
        }
        return parts.join('');
      },
    };
  }

  private row(row: readonly Placed[]): void {
    const above = Math.max(...row.map(({ item }) => item.above));
    const below = Math.max(...row.map(({ item }) => item.below));
    if (!this.room(row[0]?.item.step ?? null, HEAD + above + below)) return;
    for (const { item, x } of row) {
      const drawn = item.draw(x, this.y + HEAD + above - item.above);
      const step = item.step?.kind === 'injected' ? null : item.step; // forced ones name themselves
      this.parts.push(step ? `<g data-step="${step.step}"><title>${escaped(stepName(step))}</title>${drawn}</g>` : drawn);
    }
    this.y += HEAD + above + below + GAP;
  }

  private token(step: Step): void {
    const { look } = this;
    const parts: string[] = [];
    const mixed = step.kind === 'mixture';
    const tint = step.kind === 'injected' ? 0 : mixed ? probabilityBin(step.fed[0]?.weight ?? 0) : tintOf(this.tint, step);
    const fill = (mixed ? look.weights : look.tints)[tint];
    for (const part of visible(shownText(step)).split(/(\n)/)) {
      if (part === '') continue;
      const shown = part === '\n' ? '↵' : part.replaceAll('\t', '⇥');
      const width = look.measure(shown, 'text');
      if (this.x + width > RIGHT && this.x > EDGE) this.turn();
      if (tint > 0) parts.push(`<rect x="${n(this.x)}" y="${n(this.y + 2)}" width="${n(width)}" height="24" rx="3" fill="${fill}"/>`);
      parts.push(this.written(this.x, this.y + 20, shown, 'text', part === '\n' ? look.mut : look.ink, width));
      if (step.kind === 'sampled' && (step.token.probability ?? 0) < 0.2) {
        parts.push(`<path d="M${n(this.x)} ${n(this.y + 24.5)}h${n(width)}" stroke="${look.ink}" stroke-width="1.5" stroke-dasharray="1.5 2"/>`);
      }
      if (isOffTop(step) && parts.length) parts.push(this.written(this.x - 3, this.y + 32, '‸', 'text', look.sampled));
      this.x += width;
      if (part === '\n') this.turn();
    }
    this.parts.push(`<g data-step="${step.step}"><title>${escaped(stepName(step))}</title>${parts.join('')}</g>`);
  }

  private turn(): void {
    this.x = EDGE;
    this.y += LINE;
  }

  /** Whether so much more height is allowed; notes the first step for which it was not. */
  private room(step: Step | null, height: number): boolean {
    if (this.cut === null && this.y + height + 40 > this.most) this.cut = step?.step ?? this.run.steps.length;
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

  private write(x: number, y: number, text: string, font: Font, colour = this.look.ink): void {
    this.parts.push(this.written(x, y, text, font, colour));
  }

  private written(x: number, y: number, text: string, font: Font, colour = this.look.ink, width: number | null = null): string {
    const exact = width === null ? '' : ` textLength="${n(width)}" lengthAdjust="spacingAndGlyphs"`; // other fonts elsewhere
    return `<text class="${font}" x="${n(x)}" y="${n(y)}" fill="${colour}"${exact}>${escaped(text)}</text>`;
  }

  /** As much of a text as has room, closed by … if that is not all. */
  private fit(text: string, width: number, font: Font): string {
    if (this.look.measure(text, font) <= width) return text;
    const characters = [...text];
    while (characters.length > 1 && this.look.measure(`${characters.join('')}…`, font) > width) characters.pop();
    return `${characters.join('')}…`;
  }
}

interface Item {
  step: Step | null;
  width: number;
  gap: number; // before it
  above: number; // px above its zero line
  below: number;
  draw(x: number, top: number): string;
}

interface Placed {
  item: Item;
  x: number;
}

const n = (value: number): string => String(Number(value.toFixed(4)));

/** A text inside XML, whatever a model wrote. */
function escaped(text: string): string {
  return text
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\ufffe\uffff]/g, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** A sentence in lines of at most so many characters, where its words allow. */
function lines(text: string, most: number): string[] {
  const made: string[] = [];
  for (const word of visible(text).split(/\s+/)) {
    const last = made.at(-1);
    if (last === undefined || last.length + word.length + 1 > most) made.push(word);
    else made[made.length - 1] = `${last} ${word}`;
  }
  return made;
}
