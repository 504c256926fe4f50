import { comparison } from './compare.svelte.ts';
import { lab } from './lab.svelte.ts';
import { nav } from './nav.svelte.ts';

/** Opens the run on the page, or else the form, beside something that is still to be chosen. */
export function compareWith(): void {
  const spec = lab.facts?.spec;
  if (lab.id !== null && spec) comparison.beside(lab.id, spec);
  else comparison.besideForm();
  nav.go(comparison.href());
}
