/** Candidates over the steps, on one canvas: the darker, the heavier; blue mixtures, orange draws, grey forced steps. */

import type { Kind, Step } from '../core/events.ts';
import { glyphs } from '../core/glyphs.ts';
import { Heat, RANKS, type Row, type Rows, type Shade, TOKENS } from '../core/heat.ts';
import { BOTTOM, Chart, type Inks, TOP } from './chart.ts';
import { coloursAt } from './colours.ts';

const LEFT = 84;
const LEVELS = 64;
/** What a value is shaded by, as the stream's bins are: below .1, .3, .6, and full. Its legend has the same stops. */
const STOPS = [0, 0.05, 0.2, 0.45, 1];

type Colour = readonly [number, number, number];

export class HeatMap extends Chart {
  private data: Heat;
  private rows: Row[] = [];
  private row: number | null = null; // under the pointer
  private shades: Record<Kind, Colour[]> | null = null;
  private readonly pixels = document.createElement('canvas');

  constructor(canvas: HTMLCanvasElement, rows: Rows, shade: Shade) {
    super(canvas, LEFT);
    this.data = new Heat(rows, shade);
  }

  /** What the pointer is on: a row's candidate in a step. */
  at(x: number, y: number): { step: number; row: Row; value: number | null; text: string | null } | null {
    const step = this.stepAt(x);
    const row = this.rows[Math.floor((y - TOP) / this.pace)];
    if (step === null || !row) return null;
    const cell = this.data.cell(row, step);
    return { step, row, value: cell?.value ?? null, text: cell?.text ?? ('text' in row ? row.text : null) };
  }

  /** Names the row under the pointer. */
  name(y: number | null): void {
    const row = y === null ? null : Math.floor((y - TOP) / this.pace);
    if (row === this.row) return;
    this.row = row;
    this.soon();
  }

  append(steps: readonly Step[]): void {
    this.data.append(steps);
    this.soon();
  }

  override theme(): void {
    this.shades = null;
    super.theme();
  }

  protected reset(): void {
    this.data = new Heat(this.data.rowsAre, this.data.shade);
  }

  protected get length(): number {
    return this.data.length;
  }

  protected kind(step: number): Kind | null {
    return this.data.step(step)?.kind ?? null;
  }

  /** Height of a row. */
  private get pace(): number {
    const most = this.data.rowsAre === 'rank' ? RANKS : TOKENS;
    return (this.canvas.clientHeight - TOP - BOTTOM) / most;
  }

  protected paint(pen: CanvasRenderingContext2D, inks: Inks): void {
    const { from, to } = this.shown;
    this.rows = this.data.rows(this.shown);
    const steps = to - from;
    const columns = Math.min(steps, Math.ceil(this.width * (window.devicePixelRatio || 1)));
    if (this.rows.length) {
      this.fill(columns);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(this.pixels, LEFT, TOP, this.width, this.rows.length * this.pace);
    }
    pen.textBaseline = 'middle';
    pen.textAlign = 'right';
    pen.strokeStyle = inks.line;
    pen.lineWidth = 1;
    this.rows.forEach((row, at) => {
      const middle = TOP + (at + 0.5) * this.pace;
      pen.fillStyle = at === this.row ? inks.ink : inks.mut;
      pen.font = 'rank' in row ? inks.font : inks.mono;
      pen.fillText(nameOf(row), LEFT - 6, middle, LEFT - 10);
      pen.beginPath();
      pen.moveTo(LEFT, Math.round(middle + this.pace / 2) + 0.5);
      pen.lineTo(LEFT + this.width, Math.round(middle + this.pace / 2) + 0.5);
      pen.stroke();
    });
  }

  /** One pixel a cell, to be stretched. */
  private fill(columns: number): void {
    const { values, steps } = this.data.grid(this.rows, this.shown, columns);
    this.pixels.width = columns;
    this.pixels.height = this.rows.length;
    const pen = this.pixels.getContext('2d');
    if (!pen) return;
    const image = pen.createImageData(columns, this.rows.length);
    this.shades ??= shadesOf(this.canvas, pen);
    for (let place = 0; place < values.length; place++) {
      const step = steps[place] ?? -1;
      if (step < 0) continue;
      const level = Math.round(Math.min(1, Math.abs(values[place] ?? 0)) * (LEVELS - 1));
      const colour = this.shades[this.kind(step) ?? 'injected'][level];
      if (!colour) continue;
      image.data[place * 4] = colour[0];
      image.data[place * 4 + 1] = colour[1];
      image.data[place * 4 + 2] = colour[2];
      image.data[place * 4 + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
  }
}

const LONGEST = 11; // characters of a row's name

/** A rank's number, or a token as glyphs. */
export function nameOf(row: Row): string {
  if ('rank' in row) return String(row.rank);
  const name = glyphs(row.text);
  return name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
}

/** The shades of every kind from nothing to 1, out of the colours of the theme. */
function shadesOf(canvas: HTMLCanvasElement, pen: CanvasRenderingContext2D): Record<Kind, Colour[]> {
  const colours = coloursAt(canvas, ['bg', 'mut', 's1', 's2', 'b0', 'b1', 'b2', 'b3', 'o0', 'o1', 'o2', 'o3']);
  const read = (name: keyof typeof colours): Colour => {
    pen.fillStyle = colours[name];
    pen.fillRect(0, 0, 1, 1);
    const [red = 0, green = 0, blue = 0] = pen.getImageData(0, 0, 1, 1).data;
    return [red, green, blue];
  };
  const ramp = (...names: (keyof typeof colours)[]): Colour[] => {
    const stops = names.map((name, at) => [names.length > 2 ? (STOPS[at] ?? 1) : at, read(name)] as const);
    return Array.from({ length: LEVELS }, (_, level) => mix(stops, level / (LEVELS - 1)));
  };
  return {
    mixture: ramp('b0', 'b1', 'b2', 'b3', 's1'),
    sampled: ramp('o0', 'o1', 'o2', 'o3', 's2'),
    injected: ramp('bg', 'mut'),
  };
}

function mix(stops: (readonly [number, Colour])[], value: number): Colour {
  const after = Math.max(1, stops.findIndex(([at]) => at >= value));
  const [low, dark] = stops[after - 1] ?? [0, [0, 0, 0]];
  const [high, light] = stops[after] ?? [1, [0, 0, 0]];
  const share = (value - low) / (high - low);
  const part = (at: 0 | 1 | 2): number => Math.round(dark[at] + share * (light[at] - dark[at]));
  return [part(0), part(1), part(2)];
}
