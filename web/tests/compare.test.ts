import { describe, expect, it } from 'vitest';
import { Divergence, variation } from '../src/core/compare.ts';
import { addressOf, parseAddress, settingRows, settingsOf, settingsOfDraft, unlike } from '../src/core/comparison.ts';
import { changed, diff, type Piece, words } from '../src/core/diff.ts';
import { newDraft } from '../src/core/draft.ts';
import type { Spec, Step } from '../src/core/events.ts';
import { finalNumber, groups, type Outcome, wilson } from '../src/core/repeats.ts';
import { events, folded, step } from './fixtures.ts';

const fed = (...weights: [number, number][]): Pick<Step, 'fed'> => ({
  fed: weights.map(([id, weight]) => ({ id, text: `t${id}`, weight })),
});

describe('the total variation of two mixtures', () => {
  it('is half the sum of the differences over all ids', () => {
    const exact = variation(fed([1, 0.7], [2, 0.3]), fed([1, 0.5], [3, 0.5]));
    expect(exact.least).toBeCloseTo((0.2 + 0.3 + 0.5) / 2, 12);
    expect(exact.most).toBeCloseTo(exact.least, 12);
    expect(variation(fed([1, 0.7], [2, 0.3]), fed([2, 0.3], [1, 0.7]))).toEqual({ least: 0, most: 0 });
    expect(variation(fed([1, 1]), fed([2, 1])).least).toBe(1);
  });

  it('takes signed weights as they are', () => {
    expect(variation(fed([1, 1.25], [2, -0.25]), fed([1, 1])).least).toBeCloseTo(0.25, 12);
  });

  it('is bounded where a part is not listed', () => {
    const rest = { count: 9, weight: 0.3 };
    const { least, most } = variation({ ...fed([1, 0.7]), fed_rest: rest }, fed([1, 0.7], [2, 0.2], [3, 0.1]));
    expect(least).toBeCloseTo(0, 12); // the rest may be tokens 2 and 3
    expect(most).toBeCloseTo(0.3, 12); // or none of them
    const both = variation({ ...fed([1, 0.7]), fed_rest: rest }, { ...fed([1, 0.6], [2, 0.3]), fed_rest: { count: 5, weight: 0.1 } });
    expect(both.least).toBeCloseTo(0.1, 12);
    expect(both.most).toBeCloseTo((0.1 + 0.3 + 0.3 + 0.1) / 2, 12);
    expect(variation({ ...fed([1, 0.5]), fed_rest: { count: 2, weight: 0.5 } }, fed([1, 0.5], [2, 0.1], [3, 0.4])).least).toBeCloseTo(0, 12);
  });
});

describe('the first divergence', () => {
  const course = (...tokens: [number, number][]): Step[] =>
    tokens.map(([id, weight], at) => step({ step: at, token: { id, text: '', probability: 0.5 }, ...fed([id, weight], [99, 1 - weight]) }));
  const reference = course([1, 0.8], [2, 0.8], [3, 0.8], [4, 0.8]);

  it('is where the readout differs, and before it where the mixture does', () => {
    const found = new Divergence();
    const other = course([1, 0.8], [2, 0.76], [3, 0.74], [5, 0.8]);
    expect(found.advance({ steps: reference, over: true }, { steps: other, over: true })).toBe(true);
    expect(found.readout).toEqual({ step: 3, ended: false });
    expect(found.fed?.step).toBe(2); // .04 apart is not yet
    expect(found.fed?.variation).toBeCloseTo(0.06, 12);
  });

  it('does not count mixtures that differ where the readout does', () => {
    const found = new Divergence();
    found.advance({ steps: reference, over: true }, { steps: course([1, 0.8], [7, 0.3]), over: true });
    expect([found.readout?.step, found.fed]).toEqual([1, null]);
  });

  it('waits for the slower run, and ends with the shorter one', () => {
    const found = new Divergence();
    const steps: Step[] = [];
    expect(found.advance({ steps: reference, over: true }, { steps, over: false })).toBe(false);
    steps.push(...reference.slice(0, 2));
    expect(found.advance({ steps: reference, over: true }, { steps, over: false })).toBe(false);
    expect(found.compared).toBe(2);
    expect(found.advance({ steps: reference, over: true }, { steps, over: true })).toBe(true);
    expect(found.readout).toEqual({ step: 2, ended: true });
  });

  it('is none of a run against itself, and names another way of feeding like weights', () => {
    const { steps } = folded(events('run'));
    const same = new Divergence();
    expect(same.advance({ steps, over: true }, { steps, over: true })).toBe(false);
    expect([same.readout, same.fed, same.way, same.compared]).toEqual([null, null, null, steps.length]);
    const max = steps.map((each) => (each.kind === 'mixture' ? { ...each, combine: 'max' as const } : each));
    const other = new Divergence();
    other.advance({ steps, over: true }, { steps: max, over: true });
    expect(other.way).toEqual({ step: 0, what: 'combine' });
    expect([other.readout, other.fed]).toEqual([null, null]);
  });
});

describe('the word diff', () => {
  const kinds = (pieces: Piece[]): string => pieces.map(({ kind, text }) => `${kind[0]}:${text}`).join('|');

  it('marks what was taken and what came, word by word', () => {
    expect(kinds(diff('43 × 34 = 1462. Here is how', '43 × 34 = 1462. Here is why: look'))).toBe(
      's:43 × 34 = 1462. Here is |r:how|a:why: look',
    );
    expect(kinds(diff('a b c d', 'a x c d e'))).toBe('s:a |r:b |a:x |s:c d |a:e');
    expect(kinds(diff('a  b\nc', 'a b c'))).toBe('s:a b c'); // white space alone is no difference
    expect(kinds(diff('', 'a b'))).toBe('a:a b');
    expect(kinds(diff('a b', ''))).toBe('r:a b');
    expect(diff('', '')).toEqual([]);
  });

  it('counts a word in the place of another as one that came and one that went', () => {
    expect(changed(diff('a b c d', 'a x c d e'))).toEqual({ added: 2, removed: 1 });
    expect(changed(diff('a b', 'a  b '))).toEqual({ added: 0, removed: 0 });
    expect(changed(diff('', 'a b'))).toEqual({ added: 2, removed: 0 });
  });

  it('gives both texts back, with as few edits as there are', () => {
    const word = (seed: number): string => 'abc'[(seed * 7919) % 3] ?? '';
    for (let seed = 1; seed < 60; seed++) {
      const one = Array.from({ length: seed % 9 }, (_, i) => word(seed * 31 + i * i));
      const two = Array.from({ length: (seed * 5) % 11 }, (_, i) => word(seed * 17 + i * 3 + 1));
      const pieces = diff(one.join(' '), two.join(' '));
      const side = (not: Piece['kind']): string[] =>
        words(pieces.filter(({ kind }) => kind !== not).map(({ text }) => `${text.trim()} `).join('')).map((w) => w.trim());
      expect(side('added')).toEqual(one);
      expect(side('removed')).toEqual(two);
      const same = words(pieces.filter(({ kind }) => kind === 'same').map(({ text }) => `${text} `).join('')).length;
      expect(same).toBe(longest(one, two));
    }
  });

  it('stays quick when nothing is alike', () => {
    const long = (letter: string): string => Array.from({ length: 20_000 }, (_, i) => `${letter}${i}`).join(' ');
    const begin = performance.now();
    expect(kinds(diff(`same ${long('a')}`, `same ${long('b')}`)).replace(/\d+/g, '').slice(0, 20)).toContain('s:same |r:a');
    expect(performance.now() - begin).toBeLessThan(1000);
  });

  function longest(a: string[], b: string[]): number {
    const row = new Array<number>(b.length + 1).fill(0);
    for (const each of a) {
      let corner = 0;
      b.forEach((other, j) => {
        const above = row[j + 1] ?? 0;
        row[j + 1] = each === other ? corner + 1 : Math.max(above, row[j] ?? 0);
        corner = above;
      });
    }
    return row[b.length] ?? 0;
  }
});

describe('repeats', () => {
  const outcome = (seed: number, answer: string | null, status: Outcome['status'] = 'finished'): Outcome => ({
    id: `r${seed}`, status, seed, steps: 10, answer,
  });

  it('have the interval of Wilson', () => {
    const near = (count: number, of: number, low: number, high: number): void => {
      const found = wilson(count, of);
      expect(found.low).toBeCloseTo(low, 4);
      expect(found.high).toBeCloseTo(high, 4);
    };
    near(5, 10, 0.2366, 0.7634);
    near(1, 10, 0.0179, 0.4042);
    near(0, 10, 0, 0.2775);
    near(10, 10, 0.7225, 1);
    near(7, 8, 0.5291, 0.9776);
    for (const [count, of] of [[1, 3], [17, 64], [63, 64]] as const) {
      for (const p of Object.values(wilson(count, of))) {
        expect((count / of - p) ** 2).toBeCloseTo((1.959964 ** 2 * p * (1 - p)) / of, 6); // what defines it
      }
    }
    expect(wilson(0, 0)).toEqual({ low: 0, high: 1 });
  });

  it('are grouped by text, whatever its white space, the commonest first', () => {
    const found = groups(
      [outcome(3, 'It is 42.'), outcome(1, ' It is\n42. '), outcome(2, '41'), outcome(4, null, 'running'), outcome(5, 'x', 'failed')],
      'text',
    );
    expect(found.map(({ key, runs }) => [key, runs.map(({ seed }) => seed)])).toEqual([['It is 42.', [1, 3]], ['41', [2]]]);
    expect(found[0]?.share).toBeCloseTo(2 / 3, 12);
    expect(found[0]?.low).toBeCloseTo(wilson(2, 3).low, 12);
  });

  it('are grouped by the final number', () => {
    const found = groups([outcome(1, 'So 25 + 17 = 42'), outcome(2, 'It is 42.0!'), outcome(3, 'no idea'), outcome(4, '1,042')], 'number');
    expect(found.map(({ key, runs }) => [key, runs.length])).toEqual([['42', 2], ['', 1], ['1042', 1]]);
  });

  it('read numbers as people write them', () => {
    const read = ['= 1,462.', '-3', '25-17', '−0.50', 'v2', '[1,2]', '007', '12345678901234567891', '0.0', 'none', '3.14 m'];
    expect(read.map(finalNumber)).toEqual(['1462', '-3', '17', '-0.5', '2', '2', '7', '12345678901234567891', '0', '', '3.14']);
  });
});

describe('the address of a comparison', () => {
  const empty = { plan: null, reference: 0, step: null, view: null, by: 'text' as const };
  const there = (address: string) => parseAddress(new URL(address, 'http://x'));

  it('holds runs, reference, step, view and grouping', () => {
    const address = { ...empty, runs: [['a', 'b'], ['c']], reference: 1, step: 7, view: 'text' as const, by: 'number' as const };
    expect(addressOf(address)).toBe('/compare?runs=a.b,c&ref=c&step=7&view=text&by=number');
    expect(there(addressOf(address))).toEqual(address);
  });

  it('holds what is not run yet', () => {
    const pane = { ...newDraft(), strategy: 'dirichlet', params: { dirichlet: { k: '3' } }, values: { T_e: '9' } };
    const plan = { model: null, system: 'Be brief.', user: '50 % of #1 & "2"?', seed: '7', repeats: 8, panes: [newDraft(), pane] };
    const back = there(addressOf({ ...empty, runs: [], plan, reference: 1 }));
    expect(back.plan).toEqual({ ...plan, panes: [{ ...newDraft(), params: { non_uniform: {} } }, pane] });
    expect(back.reference).toBe(1);
  });

  it('takes what people do to addresses', () => {
    expect(there('/compare')).toEqual({ ...empty, runs: [] });
    expect(there('/compare?runs=a,a,,b.b,c,d,e&ref=nope&step=-1&view=x&by=y#%').runs).toEqual([['a'], ['a'], ['b'], ['c']]);
    expect(there('/compare#' + encodeURIComponent('{"panes":[1,null,{"strategy":5}],"repeats":1e9,"seed":3}')).plan).toMatchObject({
      repeats: 1, seed: '',
    });
  });
});

describe('settings side by side', () => {
  const spec = folded(events('run')).spec as Spec;

  it('have a row for every field, parameters of strategies too', () => {
    const other: Spec = { ...spec, strategy: { name: 'nucleus', top_p: 0.9 }, seed: spec.seed + 1 };
    const rows = settingRows([settingsOf(spec), settingsOf(other)]);
    const differing = rows.filter(({ differs }) => differs).map(({ path, values }) => [path, ...values]);
    expect(differing).toEqual(
      expect.arrayContaining([
        ['strategy.name', spec.strategy.name, 'nucleus'],
        ['strategy.top_p', null, '0.9'],
        ['seed', String(spec.seed), String(spec.seed + 1)],
      ]),
    );
    expect(rows.find(({ path }) => path === 'answer.top_p')).toMatchObject({ values: ['1', '1'], differs: false });
    expect(unlike(spec, other)).toEqual(['seed']);
    expect(unlike(spec, { ...spec, user: 'x', model: 'y' })).toEqual(['prompt', 'model']);
  });

  it('are the same of a draft', () => {
    const strategy = {
      name: 'non_uniform', help: '', doc: '', transition: '', thinks: true, end_probability: 0.05, paper: null,
      schema: { properties: { k: { type: 'integer', default: 5 } } },
    };
    const flat = settingsOfDraft({ ...newDraft(), user: 'x', values: { temperature: '0.80', seed: '' } }, strategy);
    expect([flat.get('strategy.k'), flat.get('temperature'), flat.get('seed'), flat.get('end_probability')]).toEqual(['5', '0.8', '–', '0.05']);
  });
});
