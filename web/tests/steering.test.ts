import { describe, expect, it } from 'vitest';
import { newDraft } from '../src/core/draft.ts';
import type { Relative, RunEvent, Status, StrategyInfo } from '../src/core/events.ts';
import { doing } from '../src/core/reducer.ts';
import { answers, changesOf, clock, editWords, fulfilled, ownOf, settingsOf } from '../src/core/steer.ts';
import { branches, branchWords, parting } from '../src/core/tree.ts';
import { events, folded, step } from './fixtures.ts';

const list = events('run').slice(0, 12);
const after = (...more: object[]): RunEvent[] =>
  [...list, ...more.map((event, at) => ({ run: 'fixture', seq: 12 + at, ...event }) as RunEvent)];
const pause = { type: 'run_paused', step: 9, held_s: 300 };

describe('a steered run', () => {
  it('is paused and goes on by its events alone', () => {
    expect(folded(after(pause))).toMatchObject({ status: 'paused', paused: { held: 300 } });
    expect(doing(folded(after(pause)))).toBe('thinking');
    expect(folded(after(pause, { type: 'lane_released' })).paused).toEqual({ held: null });
    expect(folded(after(pause, { type: 'run_resumed', status: 'running' }))).toMatchObject({ status: 'running', paused: null });
    expect(folded(after(pause, { type: 'run_cancelled', timing: null }))).toMatchObject({ status: 'cancelled', paused: null });
  });

  it('keeps how its replay agreed', () => {
    const replay = { steps: 9, error: 2e-3, words: 'replay differs by 0.002', state: 'restarted', state_words: 'strategy state restarted' };
    const own = { ...replay, error: 0, words: 'replay exact', state: 'kept' };
    const run = folded(after({ type: 'replayed', ...replay }, pause, { type: 'replayed', ...own }));
    expect(run.replay).toMatchObject(replay);
    expect(run.regained).toMatchObject(own);
  });

  it('answers what was asked of it', () => {
    const [paused, resumed, one, end] = after(pause, { type: 'run_resumed' }, { type: 'step', ...step() }, { type: 'run_cancelled' }).slice(12) as [RunEvent, RunEvent, RunEvent, RunEvent];
    expect([paused, resumed, one, end].map((event) => answers(event, 'pause'))).toEqual([true, false, false, true]);
    expect([paused, resumed, one, end].map((event) => answers(event, 'cancel'))).toEqual([false, false, false, true]);
    expect([paused, resumed, one, end].map((event) => answers(event, 'step'))).toEqual([false, true, true, true]);
    expect(answers(end, 'sending')).toBe(false);
  });

  it('may be already as was asked', () => {
    expect(['running', 'paused', 'queued'].map((status) => fulfilled('pause', status as Status))).toEqual([false, true, false]);
    expect(['running', 'paused', 'queued'].map((status) => fulfilled('resume', status as Status))).toEqual([true, false, true]);
    expect(fulfilled('step', 'paused') || fulfilled('cancel', 'running')).toBe(false);
  });

  it('is told in words', () => {
    const fork = { run: 'a', step: 14, mixture: null };
    expect(editWords(fork, step())).toBe('');
    expect(editWords({ ...fork, mixture: { ids: [1], weights: [1], combine: 'sum' } }, step())).toBe('␣break forced');
    expect(editWords({ ...fork, mixture: { ids: [1, 2], weights: [0.5, 0.5], combine: 'sum' } }, step())).toBe('weights edited');
    expect([271.2, 60, 0.2, -3].map(clock)).toEqual(['4:32', '1:00', '0:01', '0:00']);
  });
});

describe('what a branch goes on with', () => {
  const spec = folded(list).spec!;

  it('is what was typed over the settings of its parent', () => {
    const own = ownOf(spec);
    expect(changesOf(spec, own)).toEqual({});
    expect(changesOf(spec, { ...own, T_e: '40', seed: '' })).toEqual({ T_e: 40, seed: null });
    expect(changesOf(spec, { ...own, T_e: 'many' })).toBeNull();
  });

  it('is everything on the form but prompts and model, defaults included', () => {
    const strategy = { name: 'nucleus', thinks: true, end_probability: 0.05, schema: { properties: { top_p: { type: 'number', default: 0.9 } } } };
    const settings = settingsOf({ ...newDraft(), user: 'x', strategy: 'nucleus' }, strategy as unknown as StrategyInfo);
    expect(settings).toEqual({
      strategy: { name: 'nucleus', top_p: 0.9 }, T_e: 50, T_total: 250, temperature: 0.8, end_probability: 0.05, transition: null,
      answer: { temperature: null, top_p: 1, top_k: 0, min_p: 0 },
    });
  });
});

describe('a family', () => {
  const relative = (id: string, parent: string | null, at: number | null, edit: string | null = null): Relative => ({
    id, parent, step: at, edit, name: null, status: 'finished', strategy: 'nucleus', created_at: `2026-11-24T10:00:0${id.length}Z`, answer: '',
  });
  const family = [
    relative('root', null, null), relative('b', 'root', 14, 'think = 1.0'), relative('aa', 'root', 5), relative('c', 'b', 20), relative('d', 'b', 3),
  ];

  it('is a tree: parents first, siblings by step', () => {
    expect(branches(family).map(({ run, level, position, siblings }) => [run.id, level, position, siblings])).toEqual([
      ['root', 1, 1, 1], ['aa', 2, 1, 2], ['b', 2, 2, 2], ['d', 3, 1, 2], ['c', 3, 2, 2],
    ]);
    expect(branches(family.slice(1)).map(({ level }) => level)).toEqual([1, 1, 2, 2]); // the root was deleted
    expect(family.map(branchWords)).toEqual(['', '@14 think = 1.0', '@5', '@20', '@3']);
    expect(branchWords(relative('e', 'b', 9, 'forced ` Lo\n`'))).toBe('@9 forced ␣Lo↵');
  });

  it('says where two of it part', () => {
    expect(parting(family, 'root', 'b')).toBe(14);
    expect(parting(family, 'c', 'b')).toBe(20);
    expect(parting(family, 'c', 'aa')).toBe(5);
    expect(parting(family, 'd', 'root')).toBe(3);
    expect(parting([...family, relative('x', null, null)], 'x', 'c')).toBeNull();
  });
});
