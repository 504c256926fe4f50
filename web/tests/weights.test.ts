import { describe, expect, it } from 'vitest';
import {
  add, candidatesOf, mixtureOf, normalise, oneHot, stuck, summary, temper, toModel, unfit, type Candidate,
} from '../src/core/weights.ts';
import { events, folded, step } from './fixtures.ts';

const recorded = step();
const weights = (list: Candidate[]): number[] => list.map(({ weight }) => Number(weight.toFixed(6)));
const change = (list: Candidate[], id: number, to: Partial<Candidate>): Candidate[] =>
  list.map((each) => (each.id === id ? { ...each, ...to } : each));

describe('the weights of a step under the hand', () => {
  it('begin as what was fed, with the likeliest of what was not', () => {
    const sampled = step({
      kind: 'sampled',
      fed: [{ id: 2, text: ' think', weight: 1 }],
      token: { id: 2, text: ' think', probability: 0.273 },
    });
    expect(candidatesOf(sampled).map(({ id, weight, believed }) => [id, weight, believed])).toEqual([[2, 1, 0.273], [1, 0, 0.345]]);
    const begun = candidatesOf(recorded);
    expect(weights(begun)).toEqual([0.42, 0.33, 0.15, 0.07, 0.03]);
    expect(summary(begun, recorded)).toMatchObject({ variation: 0, ready: true });
    expect(summary(begun, recorded).sum).toBeCloseTo(1);
  });

  it('are normalised around the locked ones', () => {
    const begun = change(change(candidatesOf(recorded), 1, { weight: 0.6, locked: true }), 5, { weight: 0.25 });
    expect(summary(begun, recorded).ready).toBe(false);
    const even = normalise(begun);
    expect(even[0]?.weight).toBe(0.6);
    expect(summary(even, recorded)).toMatchObject({ ready: true });
    expect(even[1]!.weight / even[2]!.weight).toBeCloseTo(0.33 / 0.15);
    expect(summary(even, recorded).sum).toBeCloseTo(1, 12);
  });

  it('say why they cannot be normalised', () => {
    const begun = candidatesOf(recorded);
    expect(stuck(begun)).toBeNull();
    expect(stuck([])).toMatch(/at least one/);
    const heavy = change(begun, 1, { weight: 1.2, locked: true });
    expect(stuck(heavy)).toBe('The locked weights alone sum to 1.200: unlock or lower one');
    expect(normalise(heavy)).toBe(heavy);
    const empty = begun.map((each) => ({ ...each, weight: 0 }));
    expect(stuck(empty)).toMatch(/unlocked token some weight/);
    expect(normalise(empty)).toBe(empty);
  });

  it('sharpen and flatten as a temperature does, locked ones apart', () => {
    const begun = change(candidatesOf(recorded), 3, { locked: true });
    const sharp = temper(begun, 0.5);
    expect(sharp[2]?.weight).toBe(0.15);
    expect(sharp[0]!.weight / sharp[1]!.weight).toBeCloseTo((0.42 / 0.33) ** 2);
    expect(summary(sharp, recorded).sum).toBeCloseTo(1);
    expect(weights(temper(sharp, 2))).toEqual(weights(begun));
  });

  it('go to one candidate, to what was believed, and back to what was fed', () => {
    const begun = candidatesOf(recorded);
    const hot = oneHot(change(begun, 1, { locked: true }), 2);
    expect(weights(hot)).toEqual([0, 1, 0, 0, 0]);
    expect(mixtureOf(hot, 'sum')).toEqual({ ids: [2], weights: [1], combine: 'sum' });
    expect(summary(hot, recorded).entropy).toBeCloseTo(0);
    expect(summary(hot, recorded).variation).toBeCloseTo(0.67);
    const model = toModel(hot);
    expect(model[0]?.weight).toBeCloseTo(0.345 / 0.618);
    expect(model[2]?.weight).toBe(0);
    expect(toModel(change(begun, 2, { weight: 0.5, locked: true }))[0]?.weight).toBeCloseTo(0.5);
  });

  it('take a token of the vocabulary once, and let one go', () => {
    const more = add(candidatesOf(recorded), { id: 77, text: ' ponder' }, recorded);
    expect(more.at(-1)).toMatchObject({ id: 77, weight: 0, fed: 0, believed: null });
    expect(add(more, { id: 77, text: ' ponder' }, recorded)).toBe(more);
    const less = more.filter(({ id }) => id !== 1);
    expect(summary(less, recorded).variation).toBeCloseTo(0.42); // the others take over all of it
    expect(mixtureOf(less, 'max').ids).toEqual([2, 3, 4, 5]);
  });

  it('are told as they can be fed, whatever their sum', () => {
    const begun = candidatesOf(recorded);
    const twice = begun.map((each) => ({ ...each, weight: 2 * each.weight }));
    expect(summary(twice, recorded)).toMatchObject({ ready: false, sum: 2 });
    expect(summary(twice, recorded).variation).toBeCloseTo(0);
    expect(summary(twice, recorded).entropy).toBeCloseTo(summary(begun, recorded).entropy ?? NaN);
    const more = change(begun, 1, { weight: 0.42 + 0.593 });
    const said = summary(more, recorded);
    expect(said.variation).toBeCloseTo(summary(normalise(more), recorded).variation ?? NaN);
    expect(said.entropy).toBeCloseTo(summary(normalise(more), recorded).entropy ?? NaN);
    expect(summary(begun.map((each) => ({ ...each, weight: 0 })), recorded)).toMatchObject({ entropy: null, variation: null });
  });

  it('have no entropy where one is negative', () => {
    expect(summary(change(candidatesOf(recorded), 5, { weight: -0.1 }), recorded).entropy).toBeNull();
  });

  it('lie on an arc only between two', () => {
    const begun = candidatesOf(recorded);
    expect(unfit(begun, 'sum')).toBeNull();
    expect(unfit(begun, 'slerp')).toMatch(/two tokens, and 5 have a weight/);
    const two = begun.map((each, index) => ({ ...each, weight: index < 2 ? 0.5 : 0 }));
    expect(unfit(two, 'slerp')).toBeNull();
    expect(mixtureOf(two, 'slerp')).toEqual({ ids: [1, 2], weights: [0.5, 0.5], combine: 'slerp' });
  });

  it('agree with what the server recorded', () => {
    for (const each of folded(events('run')).steps.filter(({ kind }) => kind === 'mixture')) {
      const said = summary(candidatesOf(each), each);
      expect(said.ready).toBe(true);
      expect(said.variation).toBe(0);
    }
  });
});
