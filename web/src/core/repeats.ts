/** One prompt over many seeds: distinct answers, how often each came, and how sure that share is. */

import type { Outcome } from './api.d.ts';

export type { Outcome };

export type By = 'text' | 'number';

export interface Group {
  key: string; // answers with the same key are the same answer; "" = none
  answer: string; // the first of them
  runs: Outcome[]; // by seed
  share: number;
  low: number; // of the Wilson interval, 95 %
  high: number;
}

/** Trimmed, white space collapsed. */
export function normal(text: string): string {
  return text.trim().replace(/\s+/g, ' ');
}

const NUMBER = /(?<![\w.)])[-−]?(\d{1,3}(,\d{3})+(?!\d)|\d+)(\.\d+)?|\d+(\.\d+)?/g;

/** The last number of a text, however it is written: "1,462.0" is "1462"; "" where there is none. */
export function finalNumber(text: string): string {
  const found = text.match(NUMBER)?.at(-1);
  if (found === undefined) return '';
  const [whole = '', part = ''] = found.replace('−', '-').replaceAll(',', '').split('.');
  const digits = part.replace(/0+$/, '');
  const size = whole.replace(/^-/, '').replace(/^0+(?=\d)/, '') + (digits && `.${digits}`);
  return whole.startsWith('-') && size !== '0' ? `-${size}` : size;
}

const Z = 1.959963984540054; // 97.5 % of the normal distribution

/** Wilson's 95 % interval of a share of `count` in `of`. */
export function wilson(count: number, of: number): { low: number; high: number } {
  if (of === 0) return { low: 0, high: 1 };
  const share = count / of;
  const shrink = 1 + Z ** 2 / of;
  const middle = (share + Z ** 2 / (2 * of)) / shrink;
  const half = (Z / shrink) * Math.sqrt((share * (1 - share)) / of + Z ** 2 / (4 * of ** 2));
  return { low: count === 0 ? 0 : middle - half, high: count === of ? 1 : middle + half };
}

/** The distinct answers of the runs that finished, the commonest first. Runs that failed or were stopped are not counted. */
export function groups(outcomes: readonly Outcome[], by: By): Group[] {
  const finished = outcomes.filter(({ status, answer }) => status === 'finished' && answer !== null);
  const found = new Map<string, Outcome[]>();
  for (const outcome of [...finished].sort((a, b) => a.seed - b.seed)) {
    const key = by === 'number' ? finalNumber(outcome.answer ?? '') : normal(outcome.answer ?? '');
    found.set(key, [...(found.get(key) ?? []), outcome]);
  }
  return [...found]
    .map(([key, runs]) => ({
      key,
      answer: normal(runs[0]?.answer ?? ''),
      runs,
      share: runs.length / finished.length,
      ...wilson(runs.length, finished.length),
    }))
    .sort((a, b) => b.runs.length - a.runs.length);
}
