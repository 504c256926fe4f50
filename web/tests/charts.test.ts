import { describe, expect, it } from 'vitest';
import { between, moved, scaled, whole } from '../src/core/axis.ts';
import { heatWords, stepWords } from '../src/core/chartwords.ts';
import { Heat } from '../src/core/heat.ts';
import { actOf } from '../src/core/keymap.ts';
import { METRICS, rank, tintOf, variation } from '../src/core/metrics.ts';
import { Series } from '../src/core/series.ts';
import { events, folded, step } from './fixtures.ts';

const believed = [
  { id: 1, text: ' break', probability: 0.5 },
  { id: 2, text: ' think', probability: 0.3 },
];

describe('metrics of a step', () => {
  it('measure total variation by hand-computed sums', () => {
    // |.5-.6| + |.3-.4| + the tail of .2, which is nowhere fed
    const fed = [{ id: 1, text: ' break', weight: 0.6 }, { id: 2, text: ' think', weight: 0.4 }];
    expect(variation(step({ fed, believed, tail: 0.2 }))).toBeCloseTo(0.2, 12);
    // a rest that is fed meets the tail: |.5-.4| + |.3-.3| + |.2-.3|
    const wide = [{ id: 1, text: ' break', weight: 0.4 }, { id: 2, text: ' think', weight: 0.3 }];
    expect(variation(step({ fed: wide, believed, tail: 0.2, fed_rest: { count: 90, weight: 0.3 } }))).toBeCloseTo(0.1, 12);
    // affine: |.5-1.25| + |.3+.25| + .2
    const affine = [{ id: 1, text: ' break', weight: 1.25 }, { id: 2, text: ' think', weight: -0.25 }];
    expect(variation(step({ fed: affine, believed, tail: 0.2 }))).toBeCloseTo(0.75, 12);
  });

  it('is 1 - p for a drawn token, listed or not, and 1 for a forced one that nobody believed in', () => {
    for (const { kind, token, ...drawn } of folded(events('run')).steps) {
      if (kind === 'sampled') expect(variation({ kind, token, ...drawn })).toBeCloseTo(1 - (token.probability ?? 0), 6);
    }
    const odd = { id: 99, text: ' odd', probability: 0.01 };
    const fed = [{ id: 99, text: ' odd', weight: 1 }];
    expect(variation(step({ kind: 'sampled', token: odd, fed, believed, tail: 0.2 }))).toBeCloseTo(0.99, 12);
    expect(variation(step({ kind: 'injected', token: { ...odd, probability: null }, fed, believed, tail: 0.2 }))).toBeCloseTo(1, 12);
  });

  it('is nothing where what was believed was fed', () => {
    const fed = believed.map(({ id, text, probability }) => ({ id, text, weight: probability }));
    expect(variation(step({ fed, believed, tail: 0.2, fed_rest: { count: 9, weight: 0.2 } }))).toBeCloseTo(0, 12);
  });

  it('ranks the token among the candidates', () => {
    expect(rank(step({ token: { id: 2, text: ' think', probability: 0.273 } }))).toBe(2);
    expect(rank(step({ token: { id: 99, text: ' odd', probability: 0.01 } }))).toBeNull();
  });

  it('tint by the bounds of the legend, and strongly what is not known', () => {
    const p = (probability: number | null) => step({ token: { id: 99, text: 'x', probability } });
    expect([0.9, 0.5, 0.2, 0.05, 0.04, null].map((each) => tintOf(METRICS.probability, p(each)))).toEqual([0, 1, 2, 3, 4, 4]);
    const h = [0.09, 0.1, 0.5, 1, 2].map((entropy) => tintOf(METRICS.entropy, step({ entropy })));
    expect(h).toEqual([0, 1, 2, 3, 4]);
    expect([9.9, 10, 20, 50, 100].map((t_ms) => tintOf(METRICS.latency, step({ t_ms })))).toEqual([0, 1, 2, 3, 4]);
    expect([1, 2, 99].map((id) => tintOf(METRICS.rank, step({ token: { id, text: 'x', probability: 0.1 } })))).toEqual([0, 1, 4]);
  });

  it('have words', () => {
    expect(stepWords(step(), METRICS.entropy)).toBe('step 14 · mixture · ␣break · H 1.300 nat');
    expect(stepWords(step(), METRICS.latency)).toBe('step 14 · mixture · ␣break · 16.2 ms');
    expect(stepWords(step(), METRICS.probability)).toContain('p 0.345');
    const forced = step({ token: { id: 9, text: 'x', probability: null } });
    expect(stepWords(forced, METRICS.probability)).toContain('p not known');
  });
});

describe('the zoom of a chart', () => {
  const all = whole(100, true);

  it('keeps the step it is about in its place, and ends at the ends', () => {
    expect(scaled(all, all, 0.5, 49.5)).toEqual({ from: 25, to: 75 });
    expect(scaled(all, all, 0.5, 0)).toEqual({ from: 0, to: 50 });
    expect(scaled(all, all, 0.5, 99)).toEqual({ from: 50, to: 100 });
    expect(scaled({ from: 25, to: 75 }, all, 2, 50)).toBeNull();
    expect(scaled({ from: 40, to: 48 }, all, 0.5, 44)).toEqual({ from: 40, to: 48 });
  });

  it('moves by a share of its width', () => {
    expect(moved({ from: 20, to: 40 }, all, 0.5)).toEqual({ from: 30, to: 50 });
    expect(moved({ from: 20, to: 40 }, all, -0.5)).toEqual({ from: 10, to: 30 });
    expect(moved({ from: 75, to: 95 }, all, 0.5)).toEqual({ from: 80, to: 100 });
    expect(moved({ from: 3, to: 23 }, all, -0.5)).toEqual({ from: 0, to: 20 });
  });

  it('spans a drag in either direction, and never less than is readable', () => {
    expect(between(10, 29, all)).toEqual({ from: 10, to: 30 });
    expect(between(29, 10, all)).toEqual({ from: 10, to: 30 });
    expect(between(50, 51, all)).toEqual({ from: 47, to: 55 });
    expect(between(0, 99, all)).toBeNull();
  });

  it('has keys', () => {
    const act = (key: string, shiftKey = false) => actOf({ key, shiftKey }, 'page');
    expect([act('ArrowLeft', true), act('ArrowRight', true)]).toEqual(['earlier', 'later']);
    expect([act('+', true), act('='), act('-'), act('0')]).toEqual(['closer', 'closer', 'wider', 'fit']);
    expect(act('ArrowRight')).toBeNull();
    expect(actOf({ key: 'ArrowRight', shiftKey: false }, 'steps')).toBe('next');
    expect(act('?', true)).toBe('help');
  });
});

describe('a series with gaps', () => {
  it('keeps them apart from its values', () => {
    const series = new Series();
    for (const value of [null, 2, null, 5, 1]) series.push(value, 'sampled');
    expect(series.most(0, 5)).toBe(5);
    expect(series.most(0, 3)).toBe(2);
    expect(series.at(0)).toBeNaN();
    for (let i = 5; i < 4000; i++) series.push(i % 2 ? null : 1, 'sampled');
    const shape = series.shape(0, 4000, 400);
    expect(shape.some(({ index, value }) => index === 3 && value === 5)).toBe(true);
    expect(shape.slice(2).every(({ value }) => value === 1)).toBe(true);
  });
});

describe('the heat map', () => {
  const mixed = (at: number, ...weights: [id: number, weight: number][]) =>
    step({ step: at, fed: weights.map(([id, weight]) => ({ id, text: `t${id}`, weight })) });
  const steps = [mixed(0, [1, 0.9], [2, 0.1]), mixed(1, [2, 0.6], [1, 0.4]), mixed(2, [3, 1.25], [2, -0.25]), mixed(3, [2, 1])];
  const all = { from: 0, to: 4 };

  it('has a row for each of the heaviest tokens, by their whole size', () => {
    const heat = new Heat('token', 'fed');
    heat.append(steps.slice(0, 3));
    expect(heat.rows(all).map((row) => ('id' in row ? [row.id, row.total] : null))).toEqual([[1, 1.3], [3, 1.25], [2, 0.95]]);
    heat.append(steps.slice(3));
    expect(heat.rows(all).map((row) => 'id' in row && row.id)).toEqual([2, 1, 3]); // summed on
    expect(heat.rows({ from: 1, to: 3 }).map((row) => 'id' in row && row.id)).toEqual([3, 2, 1]); // and anew
    const row = heat.rows(all)[0]!;
    expect([0, 1, 2, 3].map((at) => heat.cell(row, at)?.value)).toEqual([0.1, 0.6, -0.25, 1]);
    expect(heat.cell({ id: 3, text: 't3', total: 1 }, 0)).toBeNull();
  });

  it('has a row for each rank', () => {
    const heat = new Heat('rank', 'fed');
    heat.append(steps);
    expect(heat.rows(all)).toHaveLength(10);
    expect([0, 1, 2, 3].map((at) => heat.cell({ rank: 2 }, at)?.text ?? null)).toEqual(['t2', 't1', 't2', null]);
  });

  it('leaves a shared column its largest value and the step of it', () => {
    const heat = new Heat('token', 'fed');
    heat.append(steps);
    const rows = heat.rows(all); // 2, 1, 3
    const grid = heat.grid(rows, all, 2);
    expect([...grid.values].map((value) => Number(value.toFixed(3)))).toEqual([0.6, 1, 0.9, 0, 0, 1.25]);
    expect([...grid.steps]).toEqual([1, 3, 0, -1, -1, 2]);
  });

  it('knows a drawn token that is beyond the likeliest', () => {
    const heat = new Heat('token', 'believed');
    const token = { id: 99, text: ' odd', probability: 0.01 };
    heat.append([step({ token, kind: 'sampled', fed: [{ id: 99, text: ' odd', weight: 1 }] })]);
    expect(heat.cell({ id: 99, text: ' odd', total: 0 }, 0)?.value).toBe(0.01);
  });

  it('says what the pointer is on', () => {
    const at = { step: 14, row: { rank: 2 }, value: 0.33, text: ' think' };
    expect(heatWords(at, 'fed')).toBe('step 14 · rank 2 · ␣think · fed 0.330');
    const gone = { step: 3, row: { id: 1, text: ' think', total: 1 }, value: null, text: ' think' };
    expect(heatWords(gone, 'believed')).toBe('step 3 · ␣think · not among the likeliest');
    expect(heatWords(gone, 'fed')).toBe('step 3 · ␣think · not fed');
  });
});
