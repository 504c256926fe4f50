import { expect, it } from 'vitest';
import { copyAs, quoted, type Said } from '../src/core/copyas.ts';
import { bodyOf, newDraft } from '../src/core/draft.ts';
import type { StrategyInfo } from '../src/core/events.ts';
import { PRESETS, parseSaved, withPreset, withSaved } from '../src/core/presets.ts';
import { draftOfFragment, fragmentOf, isShared } from '../src/core/share.ts';

const nucleus: StrategyInfo = {
  name: 'nucleus', help: '', doc: '', transition: '</think>', thinks: true, end_probability: 0.05, paper: null,
  schema: { properties: { top_p: { type: 'number', default: 0.9 } } },
};
const spec: Said = {
  model: null, system: "it's\n", user: '🙂 "$x"\\', strategy: { name: 'nucleus', top_p: 0.5 },
  T_e: 3, T_total: 9, temperature: 0.8, end_probability: 0.1, transition: '', seed: 5,
  answer: { temperature: null, top_p: 0.9, top_k: 0, min_p: 0 },
};

it('quotes words for the shell', () => {
  expect(quoted('--T-e=5')).toBe('--T-e=5');
  expect(quoted("it's")).toBe("'it'\\''s'");
  expect(quoted('')).toBe("''");
  expect(quoted('$x')).toBe("'$x'");
});

it('says a spec for the command line', () => {
  const said = copyAs('CLI', { user: '-5 + 3', transition: '', end_probability: null, strategy: { name: 'x', a: 'none', b: 'true', c: true } }, {
    server: '', model: 'toy',
  });
  const options = `--strategy=x --set=a=none '--set=b="true"' --set=c=true --transition= --end-probability=none`;
  expect(said).toBe(`superpose run --model=toy ${options} -- '-5 + 3'\n`);
});

it('brings settings over in a link', async () => {
  const fragment = await fragmentOf(spec);
  expect(isShared(fragment)).toBe(true);
  expect(fragment).toMatch(/^#spec=1\.[\w-]+$/);
  const body = bodyOf(await draftOfFragment(fragment), nucleus);
  expect(body).toEqual({ ...spec, model: undefined, answer: { top_p: 0.9 } });
});

it('refuses a flipped character or gives other settings, and never breaks', async () => {
  const fragment = await fragmentOf(spec);
  for (let at = 8; at < fragment.length; at += 3) {
    const broken = `${fragment.slice(0, at)}${fragment[at] === 'A' ? 'B' : 'A'}${fragment.slice(at + 1)}`;
    const read = await draftOfFragment(broken).catch((error: unknown) => error);
    if (read instanceof Error) expect(read.message).toMatch(/^(The link's settings|These settings)/);
    else expect(read).toHaveProperty('values');
  }
});

it('keeps what is not a preset’s own', () => {
  const draft = { ...newDraft(), strategy: 'selar', values: { seed: '4', T_e: '7', temperature: '0.1' } };
  for (const preset of PRESETS) {
    const filled = withPreset(draft, preset);
    expect(filled).toMatchObject({ strategy: 'selar', user: preset.user, system: preset.system });
    expect(filled.values).toEqual({ seed: '4', ...preset.values });
  }
});

it('reads saved forms and leaves out what is none', () => {
  const one = { name: 'b', draft: { ...newDraft(), user: 'hi' } };
  const text = JSON.stringify([one, null, { name: 'x', draft: 5 }, { name: ' ', draft: {} }, { name: 'p', draft: { params: null } }]);
  expect(parseSaved(text)).toEqual([one, { name: 'p', draft: newDraft() }]);
  for (const bad of [null, '', '{', '{}', '3', 'null']) expect(parseSaved(bad)).toEqual([]);
  expect(withSaved([one], { name: 'a', draft: newDraft() }).map(({ name }) => name)).toEqual(['a', 'b']);
  expect(withSaved([one], { ...one, draft: newDraft() })).toHaveLength(1);
});
