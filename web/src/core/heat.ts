/** Candidates over the steps: what the heat map shades, row by row. */

import type { Range } from './axis.ts';
import type { Step } from './events.ts';

export const ROWS = ['rank', 'token'] as const;
export const SHADES = ['fed', 'believed'] as const;
export type Rows = (typeof ROWS)[number];
export type Shade = (typeof SHADES)[number];

export const RANKS = 10;
export const TOKENS = 12;

/** A rank, or a token with what it weighs in all steps shown. */
export type Row = { rank: number } | { id: number; text: string; total: number };

interface Candidate {
  id: number;
  text: string;
  value: number;
}

/** The largest value of every row in every column, and the step it comes from (-1: none). */
export interface Grid {
  columns: number;
  values: Float32Array; // row by row
  steps: Int32Array;
}

export class Heat {
  private readonly steps: Step[] = [];
  private readonly candidates: Candidate[][] = []; // by step
  /** Weight of every token in the steps [from, to): a range that only grows at its end is summed on. */
  private totals = new Map<number, { id: number; text: string; total: number }>();
  private summed: Range = { from: 0, to: 0 };

  constructor(
    readonly rowsAre: Rows,
    readonly shade: Shade,
  ) {}

  get length(): number {
    return this.steps.length;
  }

  append(steps: readonly Step[]): void {
    for (const step of steps) {
      this.steps.push(step);
      this.candidates.push(candidates(step, this.shade, this.rowsAre));
    }
  }

  step(index: number): Step | null {
    return this.steps[index] ?? null;
  }

  /** The ranks, or the tokens of the largest total size in the steps shown, largest first. */
  rows(shown: Range): Row[] {
    if (this.rowsAre === 'rank') return Array.from({ length: RANKS }, (_, at) => ({ rank: at + 1 }));
    this.sum({ from: shown.from, to: Math.min(shown.to, this.length) });
    const largest = [...this.totals.values()].sort((a, b) => b.total - a.total || a.id - b.id).slice(0, TOKENS);
    return largest.map((row) => ({ ...row }));
  }

  /** What a row's candidate is and has in a step; null where it is not among the candidates. */
  cell(row: Row, step: number): Candidate | null {
    const all = this.candidates[step] ?? [];
    return ('rank' in row ? all[row.rank - 1] : all.find(({ id }) => id === row.id)) ?? null;
  }

  /** The shown steps in so many columns: what shares a column leaves its largest value. */
  grid(rows: readonly Row[], shown: Range, columns: number): Grid {
    const size = shown.to - shown.from;
    const values = new Float32Array(columns * rows.length);
    const steps = new Int32Array(columns * rows.length).fill(-1);
    const rowOf = new Map(rows.map((row, at) => ['rank' in row ? row.rank - 1 : row.id, at]));
    for (let index = shown.from; index < Math.min(shown.to, this.length); index++) {
      const column = Math.floor(((index - shown.from) * columns) / size);
      this.candidates[index]?.forEach(({ id, value }, at) => {
        const row = rowOf.get(this.rowsAre === 'rank' ? at : id);
        if (row === undefined) return;
        const place = row * columns + column;
        if (steps[place] !== -1 && Math.abs(value) <= Math.abs(values[place] ?? 0)) return;
        values[place] = value;
        steps[place] = index;
      });
    }
    return { columns, values, steps };
  }

  private sum(wanted: Range): void {
    if (wanted.from !== this.summed.from || wanted.to < this.summed.to) {
      this.totals.clear();
      this.summed = { from: wanted.from, to: wanted.from };
    }
    for (let index = this.summed.to; index < wanted.to; index++) {
      for (const { id, text, value } of this.candidates[index] ?? []) {
        const known = this.totals.get(id);
        if (known) known.total += Math.abs(value);
        else this.totals.set(id, { id, text, total: Math.abs(value) });
      }
    }
    this.summed = wanted;
  }
}

/** What was fed, heaviest first, or believed, likeliest first; a drawn token beyond that list has a row, but no rank. */
function candidates({ fed, believed, token }: Step, shade: Shade, rows: Rows): Candidate[] {
  if (shade === 'fed') return fed.map(({ id, text, weight }) => ({ id, text, value: weight }));
  const all = believed.map(({ id, text, probability }) => ({ id, text, value: probability }));
  const { id, text, probability } = token;
  if (rows === 'token' && probability !== null && !all.some((other) => other.id === id)) all.push({ id, text, value: probability });
  return all;
}
