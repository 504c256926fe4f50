import { describe, expect, it } from 'vitest';
import { bodyOf, checkDraft, draftOf, general, GENERAL, newDraft, parseDraft, startsAgain } from '../src/core/draft.ts';
import type { Property, Spec, StrategyInfo } from '../src/core/events.ts';
import { checkField, fieldOf, fieldsOf, stepOf, trackOf, valueOf } from '../src/core/form.ts';
import { hrefOf, parseRoute } from '../src/core/route.ts';
import { events } from './fixtures.ts';

const properties: Record<string, Property> = {
  k: { type: 'integer', default: 5, minimum: 1, maximum: 256, description: 'candidates mixed at each step' },
  top_p: { type: 'number', default: 0.95, exclusiveMinimum: 0, maximum: 1, description: 'cumulative probability' },
  gate: { anyOf: [{ type: 'number', minimum: 0 }, { type: 'null' }], default: null },
  norm: { type: 'string', enum: ['none', 'mean'], default: 'none' },
  loud: { type: 'boolean', default: false },
};
const strategy: StrategyInfo = {
  name: 'test', help: '', doc: '', transition: '', thinks: true, end_probability: 0.05, paper: null, schema: { properties },
};
const [k, top_p, gate, norm, loud] = fieldsOf(properties);
const draft = { ...newDraft(), user: 'hi', strategy: 'test' };

describe('fields from a JSON Schema', () => {
  it('carry type, default, bounds and help', () => {
    expect(k).toMatchObject({ path: 'strategy.k', label: 'k', type: 'integer', initial: '5', min: 1, max: 256, above: false });
    expect(top_p).toMatchObject({ type: 'number', min: 0, above: true, max: 1, below: false });
    expect(gate).toMatchObject({ nullable: true, initial: '', min: 0 });
    expect(norm).toMatchObject({ type: 'string', options: ['none', 'mean'] });
    expect(loud).toMatchObject({ type: 'boolean', initial: 'false' });
  });

  it('complain in sentences', () => {
    expect(checkField(k!, '5')).toBeNull();
    expect(checkField(k!, '0')).toBe('k must be at least 1; got 0');
    expect(checkField(k!, '257')).toBe('k must be at most 256; got 257');
    expect(checkField(k!, '2.5')).toBe('k must be a whole number; got 2.5');
    expect(checkField(k!, '')).toBe('k needs a number');
    expect(checkField(k!, 'no number')).toBe('k must be a number; got no number');
    expect(checkField(top_p!, '0')).toBe('top_p must be above 0; got 0');
    expect(checkField(gate!, '')).toBeNull();
    expect(checkField(norm!, 'max')).toBe('norm must be one of none, mean');
  });

  it('become JSON values', () => {
    expect([valueOf(k!, '7'), valueOf(gate!, ''), valueOf(loud!, 'true'), valueOf(norm!, 'mean')]).toEqual([7, null, true, 'mean']);
    expect([stepOf(k!), stepOf(top_p!)]).toEqual([1, 0.01]);
  });

  it('have sliders on which every position is allowed and the default is reached', () => {
    for (const field of [k!, top_p!, ...GENERAL.slice(0, 3)]) {
      const track = trackOf(field)!;
      expect(track.value(track.position(Number(field.initial)))).toBeCloseTo(Number(field.initial));
      for (let at = 0; at <= 1; at += 0.125) expect(checkField(field, String(track.value(at)))).toBeNull();
    }
    expect(trackOf(norm!)).toBeNull();
    expect(trackOf(gate!)).toBeNull();
  });
});

describe('the form of the next run', () => {
  it('may start when nothing is wrong', () => {
    expect(checkDraft(draft, strategy)).toEqual({});
    expect(checkDraft({ ...draft, user: ' ' }, strategy)).toHaveProperty('user');
  });

  it('checks T_e against T_total while typing', () => {
    const values = { T_e: '300' };
    expect(checkDraft({ ...draft, values }, strategy)).toEqual({ T_e: 'T_e must be at most T_total (250); got 300' });
    expect(checkDraft({ ...draft, values: { T_e: '300', T_total: '300' } }, strategy)).toEqual({});
    expect(checkDraft({ ...draft, params: { test: { k: '0' } } }, strategy)).toHaveProperty(['strategy.k']);
  });

  it('thinks no longer than the run lasts, unless it is told to', () => {
    const short = { ...draft, values: { T_total: '30' } };
    expect(checkDraft(short, strategy)).toEqual({});
    expect(bodyOf(short, strategy)).toMatchObject({ T_e: 30, T_total: 30 });
    expect(general(short)[0]).toMatchObject({ path: 'T_e', initial: '30' });
    expect(checkDraft({ ...draft, values: { T_total: '30', T_e: '50' } }, strategy)).toEqual({ T_e: 'T_e must be at most T_total (30); got 50' });
    for (const T_total of ['', '0', '1.5', '51', 'x']) expect(general({ ...draft, values: { T_total } })[0]?.initial).toBe('50');
  });

  it('sends what was set and leaves the rest to the server', () => {
    expect(bodyOf(draft, strategy)).toEqual({
      system: '', user: 'hi', T_e: 50, T_total: 250, temperature: 0.8, seed: null,
      strategy: { name: 'test', k: 5, top_p: 0.95, gate: null, norm: 'none', loud: false },
    });
    const set = { ...draft, model: 'toy', values: { end_probability: '', 'answer.top_k': '40', transition: 'x', seed: '0' } };
    expect(bodyOf(set, strategy)).toMatchObject({
      model: 'toy', seed: 0, end_probability: null, transition: 'x', answer: { top_k: 40 },
    });
  });

  it('takes over parameters of any kind from a strategy that it does not know', () => {
    const [queued] = events('nucleus');
    const spec = (queued as unknown as { spec: Spec }).spec;
    const own = { name: 'own', ids: [1, 2], odd: { toString: 1 }, none: null };
    expect(draftOf({ ...spec, strategy: own }).params['own']).toEqual({ ids: '[1,2]', odd: '{"toString":1}', none: '' });
  });

  it('takes over the recipe of a run', () => {
    const [queued] = events('nucleus');
    const spec = (queued as unknown as { spec: Spec }).spec;
    const again = draftOf(spec);
    const nucleus = { ...strategy, name: 'nucleus', schema: { properties: { top_p: properties['top_p']! } } };
    expect(checkDraft(again, nucleus)).toEqual({});
    expect(bodyOf(again, nucleus)).toEqual({
      model: 'toy', system: 'You are careful.', user: 'What is 25 + 17?', strategy: { name: 'nucleus', top_p: 0.95 },
      T_e: 30, T_total: 40, temperature: 0.8, seed: 7, transition: '</think>\né\n<answer>',
    });
  });

  it('knows whether it would start a run again', () => {
    const [queued] = events('nucleus');
    const spec = (queued as unknown as { spec: Spec }).spec;
    const nucleus = { ...strategy, name: 'nucleus', schema: { properties: { top_p: properties['top_p']! } } };
    const again = draftOf(spec);
    const values = (changes: Record<string, string>): typeof again => ({ ...again, values: { ...again.values, ...changes } });
    for (const same of [again, values({ seed: '9' }), { ...again, model: null }]) {
      expect(startsAgain(same, spec, nucleus)).toBe(true);
    }
    for (const other of [
      values({ T_e: '29' }), values({ transition: 'x' }), values({ end_probability: 'abc' }), { ...again, user: 'Why?' },
      { ...again, model: 'mine' }, { ...again, params: { nucleus: { top_p: '0.9' } } }, { ...again, strategy: 'test' },
    ]) {
      expect(startsAgain(other, spec, nucleus)).toBe(false);
    }
  });

  it('survives a reload and broken storage', () => {
    const typed = { ...draft, values: { T_e: '7' }, params: { test: { k: '3' } } };
    expect(parseDraft(JSON.stringify(typed))).toEqual(typed);
    for (const broken of [null, '', '{', '7', '[]', '{"values":{"T_e":5}}', '{"params":null}']) {
      expect(() => parseDraft(broken)).not.toThrow();
    }
  });

  it('reads a plain property as a field of any path', () => {
    expect(fieldOf('answer.top_p', 'Answer top-p', { type: 'number' })).toMatchObject({ path: 'answer.top_p', min: null });
  });
});

describe('the address', () => {
  it('says run, step, view and chart, both ways', () => {
    const route = { run: 'abc', step: 14, view: 'stack' as const, chart: 'heat' as const };
    expect(hrefOf(route)).toBe('/run/abc?step=14&view=stack&chart=heat');
    expect(parseRoute(new URL(hrefOf(route), 'http://x'))).toEqual(route);
    expect(hrefOf({ run: null, step: 3, view: 'text' })).toBe('/');
  });

  it('takes no nonsense', () => {
    const parsed = (path: string) => parseRoute(new URL(path, 'http://x'));
    expect(parsed('/run/a?step=-1&view=cube&chart=pie')).toEqual({ run: 'a', step: null, view: null, chart: null });
    expect(parsed('/else')).toEqual({ run: null, step: null, view: null, chart: null });
    expect(parsed('/run/a%2Fb?step=1e3').run).toBe('a/b');
    expect(parsed('/run/%E0%A4%A').run).toBe('%E0%A4%A');
  });
});
