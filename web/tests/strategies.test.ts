import { describe, expect, it } from 'vitest';
import { advanced, bodyOf, checkDraft, choose, chooseFresh, newDraft, TRANSITION, typed } from '../src/core/draft.ts';
import type { Property, StrategyInfo } from '../src/core/events.ts';
import { fieldsOf } from '../src/core/form.ts';
import { bare } from '../src/core/format.ts';
import { stepName } from '../src/core/names.ts';
import { apply, doing, newRun } from '../src/core/reducer.ts';
import { parseScreen, strategyHref } from '../src/core/route.ts';
import { cells, dotOf, STACK } from '../src/core/scale.ts';
import { defaultOf, grouped, partsOf, piecesOf, rangeOf, rules } from '../src/core/strategies.ts';
import { events, step } from './fixtures.ts';

const info = (name: string, changes: Partial<StrategyInfo> = {}): StrategyInfo => ({
  name, help: '', doc: '', transition: '</think>\n', thinks: true, end_probability: 0.05, paper: null, schema: {}, ...changes,
});

describe('the list of strategies', () => {
  it('begins with the six and the baseline, then papers, then experiments', () => {
    const names = ['power', 'sample', 'selar', 'nucleus', 'non_uniform'];
    const all = names.map((name) => info(name, { paper: name === 'selar' ? '2604.08299' : null }));
    expect(grouped(all).map(({ label, strategies }) => [label, strategies.map(({ name }) => name)])).toEqual([
      [null, ['non_uniform', 'nucleus', 'sample']], ['From papers', ['selar']], ['Experiments', ['power']],
    ]);
    expect(grouped([])).toEqual([]);
  });

  it('has an address for each', () => {
    for (const name of [null, 'selar', 'a/b c']) {
      expect(parseScreen(new URL(strategyHref(name), 'http://x'))).toEqual({ name: 'strategies', strategy: name });
    }
    for (const path of ['/', '/run/strategies']) {
      expect(parseScreen(new URL(path, 'http://x'))).toEqual({ name: 'lab' });
    }
    expect(parseScreen(new URL('/strategiesx', 'http://x'))).toEqual({ name: 'missing' });
    expect(parseScreen(new URL('/strategies/%', 'http://x'))).toEqual({ name: 'strategies', strategy: '%' });
  });
});

describe('a docstring', () => {
  const doc = 'Does it.\n\nSome idea.\nFormula: w = p,\n  q.\nGumbel: more.\nSource: arXiv 2604.08299; repo a/b.\nDeviations: none.';

  it('falls into its parts', () => {
    expect(partsOf(doc)).toEqual([
      { head: null, text: 'Some idea.' },
      { head: 'Formula', text: 'w = p, q. Gumbel: more.' },
      { head: 'Source', text: 'arXiv 2604.08299; repo a/b.' },
      { head: 'Deviations', text: 'None.' },
    ]);
    expect(partsOf('Only help.')).toEqual([]);
  });

  it('links its papers and nothing else', () => {
    expect(piecesOf('see arXiv 2604.08299; `</think>` <b>')).toEqual([
      { text: 'see ', href: null, code: false },
      { text: 'arXiv 2604.08299', href: 'https://arxiv.org/abs/2604.08299', code: false },
      { text: '; ', href: null, code: false },
      { text: '</think>', href: null, code: true },
      { text: ' <b>', href: null, code: false },
    ]);
  });

  it('comes with the rules in words', () => {
    expect(rules(info('a'))[0]).toContain('</think>↵ is forced');
    expect(rules(info('a', { transition: '', end_probability: null }))[1]).toContain('end rule of its own');
    expect(rules(info('a', { thinks: false })).join(' ')).toContain('T_e does not apply');
  });
});

describe('parameters', () => {
  const properties: Record<string, Property> = {
    rescale: { type: 'string', enum: ['none', 'mean_norm'], default: 'none' },
    top_p: { type: 'number', exclusiveMinimum: 0, maximum: 1, default: 0.95 },
    k: { type: 'integer', minimum: 1, maximum: 100_000, default: 5 },
    on: { type: 'boolean', default: true },
    words: { type: 'string', default: '</think>\nso' },
    open: { anyOf: [{ type: 'number', minimum: 0 }, { type: 'null' }], default: null },
  };

  it('stand with k first and the length of the sum last', () => {
    expect(fieldsOf(properties).map(({ label }) => label)).toEqual(['k', 'top_p', 'on', 'words', 'open', 'rescale']);
  });

  it('have their default and range in words', () => {
    expect(fieldsOf(properties).map((field) => [defaultOf(field), rangeOf(field)])).toEqual([
      ['5', 'whole, 1 to 100\u202f000'], ['0.95', 'above 0, at most 1'], ['yes', 'yes or no'], ['</think>↵so', 'text'],
      ['–', 'at least 0, or nothing'], ['none', 'none, mean_norm'],
    ]);
  });
});

describe('the end probability', () => {
  const [usual, own] = [info('usual'), info('own', { end_probability: null })];
  const draft = () => ({ ...newDraft(), user: 'hi', strategy: 'usual' });

  it('follows the strategy and is sent only when it was changed', () => {
    expect([usual, own, undefined].map((each) => advanced(each)[0]!.initial)).toEqual(['0.05', '', '0.05']);
    expect(bodyOf(draft(), usual)).not.toHaveProperty('end_probability');
    expect(bodyOf(draft(), own)).not.toHaveProperty('end_probability');
    const set = { ...draft(), values: { end_probability: '0.05' } };
    expect(bodyOf(set, usual)).not.toHaveProperty('end_probability');
    expect(bodyOf(set, own)).toMatchObject({ end_probability: 0.05 });
    expect(checkDraft(set, own)).toEqual({});
  });

  it('stays behind with the strategy that it was the default of', () => {
    const taken = { ...draft(), values: { end_probability: '0.05' } };
    choose(taken, usual, 'own');
    expect([taken.strategy, typed(taken, advanced(own)[0]!)]).toEqual(['own', '']);
    const chosen = { ...draft(), values: { end_probability: '0.2' } };
    choose(chosen, usual, 'own');
    expect(typed(chosen, advanced(own)[0]!)).toBe('0.2');
  });

  it('and all else of a strategy is at its default when it is tried out', () => {
    const typedIn = { ...draft(), values: { end_probability: '0.2', transition: 'x', T_e: '7' }, params: { own: { k: '3' } } };
    chooseFresh(typedIn, 'own');
    expect(typedIn).toMatchObject({ strategy: 'own', params: {}, values: { T_e: '7' } });
    expect(typed(typedIn, TRANSITION)).toBe('');
  });
});

describe('T_e', () => {
  it('is never in the way of a strategy that rules the whole generation', () => {
    const short = { ...newDraft(), user: 'hi', strategy: 'whole', values: { T_e: '50', T_total: '40' } };
    const whole = info('whole', { thinks: false });
    expect(checkDraft(short, info('usual'))).toHaveProperty('T_e');
    expect(checkDraft(short, whole)).toEqual({});
    expect(bodyOf(short, whole)).toMatchObject({ T_e: 40, T_total: 40 });
  });
});

describe('a run of a strategy that rules the whole generation', () => {
  const begun = (T_e: number) => {
    const run = newRun('x');
    const [queued, started, prefilled] = events('run');
    const spec = { ...(queued as Extract<typeof queued, { type: 'run_queued' }>)!.spec, T_e };
    for (const event of [{ ...queued!, spec }, started!, prefilled!]) apply(run, event as typeof started & object);
    return run;
  };
  const first = (changes: object) => ({ type: 'step', run: 'x', seq: 3, ...step({ step: 0, phase: 'answer', ...changes }) }) as const;

  it('is known by its first step', () => {
    const run = begun(20);
    expect(doing(run)).toBe('reading');
    apply(run, first({ kind: 'sampled' }));
    expect([run.whole, doing(run), run.seen]).toEqual([true, 'answering', { mixture: false, sampled: true, combine: 'sum' }]);
    const mixes = begun(0);
    apply(mixes, first({ kind: 'mixture', combine: 'max' }));
    expect([mixes.whole, mixes.seen]).toEqual([true, { mixture: true, sampled: false, combine: 'max' }]);
  });

  it('is not taken for one that skips thinking or has ended it', () => {
    const skips = begun(0);
    apply(skips, first({ kind: 'sampled' }));
    const ended = begun(20);
    apply(ended, { type: 'phase_ended', run: 'x', seq: 3, phase: 'thinking', ended_by: 'strategy', reason: 'sure', steps: 0, token: null, text: '' });
    apply(ended, { ...first({ kind: 'sampled' }), seq: 4 });
    const thinks = begun(20);
    apply(thinks, first({ phase: 'thinking' }));
    expect([skips.whole, ended.whole, thinks.whole]).toEqual([false, false, false]);
  });
});

describe('signs, dots and noise', () => {
  const fed = [
    { id: 1, text: 'a', weight: -0.8 }, { id: 2, text: 'b', weight: 1.25 }, { id: 3, text: 'c', weight: 0.75 }, { id: 4, text: 'd', weight: -0.2 },
  ];

  it('a cell is as high as the size of its weight', () => {
    expect(cells(step({ fed })).map(({ height, weight }) => height - Math.abs(weight) * STACK)).toEqual([0, 0, 0, 0]);
  });

  it('the drawn token is found in its part of the column', () => {
    const at = (id: number) => dotOf(step({ phase: 'answer', fed, drawn: { id, text: '', probability: 0.1 } }));
    expect(at(2)).toEqual({ below: false, top: 0.625 * STACK, row: 0 });
    expect(at(3)).toEqual({ below: false, top: 1.625 * STACK, row: 1 });
    expect(at(4)).toMatchObject({ below: true, row: 1 });
    expect([at(9), dotOf(step({ fed }))]).toEqual([null, null]);
  });

  it('can be said', () => {
    expect(stepName(step({ fed, noise: 0.33 }))).toBe('step 14, mixture, a minus 80 percent, b 125 percent, 2 more, with noise');
    expect([0.33, 1.5, 0.05, 2].map(bare)).toEqual(['.33', '1.5', '.05', '2']);
  });
});
