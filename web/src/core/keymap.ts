/** The one table of keys: handlers act by it, and the help dialog is drawn from it. */

export type Act =
  | 'next' | 'previous' | 'down' | 'up' | 'first' | 'last' | 'pin' | 'release'
  | 'pause' | 'step' | 'stop' | 'edit' | 'force'
  | 'nextUnsure' | 'previousUnsure' | 'earlier' | 'later' | 'closer' | 'wider' | 'fit'
  | 'previousSwitch' | 'nextSwitch' | 'stack' | 'ladder' | 'text' | 'follow' | 'compare' | 'generate' | 'help';

export interface Binding {
  keys: string[]; // KeyboardEvent.key
  shift?: true; // only with Shift; without, the key is bound otherwise
  ctrl?: true; // only with Ctrl, or Cmd; then also while text is typed
  shown: string;
  act: Act;
  says: string;
  anywhere: boolean; // acts outside the steps as well, unless single keys are switched off
}

export const KEYMAP: readonly Binding[] = [
  { keys: ['Enter'], ctrl: true, shown: 'Ctrl Enter', act: 'generate', says: 'start the run', anywhere: true },
  { keys: ['ArrowRight'], shown: '→', act: 'next', says: 'next step', anywhere: false },
  { keys: ['ArrowLeft'], shown: '←', act: 'previous', says: 'previous step', anywhere: false },
  { keys: ['ArrowDown'], shown: '↓', act: 'down', says: 'step below', anywhere: false },
  { keys: ['ArrowUp'], shown: '↑', act: 'up', says: 'step above', anywhere: false },
  { keys: ['Home'], shown: 'Home', act: 'first', says: 'first step of the phase', anywhere: false },
  { keys: ['End'], shown: 'End', act: 'last', says: 'last step of the phase', anywhere: false },
  { keys: ['Enter'], shown: 'Enter', act: 'pin', says: 'pin the step in the inspector; again: branch there', anywhere: false },
  { keys: ['Escape'], shown: 'Esc', act: 'release', says: 'let go of the step', anywhere: true },
  { keys: [' '], shown: 'Space', act: 'pause', says: 'pause, or go on', anywhere: true },
  { keys: ['s', 'S'], shown: 'S', act: 'step', says: 'one step of a paused run', anywhere: true },
  { keys: ['.'], shown: '.', act: 'stop', says: 'stop the run', anywhere: true },
  { keys: ['e', 'E'], shown: 'E', act: 'edit', says: 'edit the weights of the pinned step', anywhere: true },
  { keys: ['f', 'F'], shown: 'F', act: 'force', says: 'force a token at the pinned step', anywhere: true },
  { keys: [']'], shown: ']', act: 'nextUnsure', says: 'next unsure step', anywhere: true },
  { keys: ['['], shown: '[', act: 'previousUnsure', says: 'previous unsure step', anywhere: true },
  { keys: ['}'], shown: '}', act: 'nextSwitch', says: 'next switch between kinds of steps', anywhere: true },
  { keys: ['{'], shown: '{', act: 'previousSwitch', says: 'previous switch between kinds', anywhere: true },
  { keys: ['+', '='], shown: '+', act: 'closer', says: 'zoom into the chart', anywhere: true },
  { keys: ['-', '−'], shown: '−', act: 'wider', says: 'zoom out of the chart', anywhere: true },
  { keys: ['0'], shown: '0', act: 'fit', says: 'all steps in the chart', anywhere: true },
  { keys: ['ArrowLeft'], shift: true, shown: 'Shift ←', act: 'earlier', says: 'earlier part of the chart', anywhere: true },
  { keys: ['ArrowRight'], shift: true, shown: 'Shift →', act: 'later', says: 'later part of the chart', anywhere: true },
  { keys: ['1'], shown: '1', act: 'stack', says: 'Stack view', anywhere: true },
  { keys: ['2'], shown: '2', act: 'ladder', says: 'Ladder view', anywhere: true },
  { keys: ['3'], shown: '3', act: 'text', says: 'Text view', anywhere: true },
  { keys: ['g', 'G'], shown: 'G', act: 'follow', says: 'follow the live end', anywhere: true },
  { keys: ['c', 'C'], shown: 'C', act: 'compare', says: 'compare the run, or the form, with…', anywhere: true },
  { keys: ['?'], shown: '?', act: 'help', says: 'this list', anywhere: true },
];

/** A step whose likeliest candidate has less than this is unsure. */
export const UNSURE = 0.5;

/** What a KeyboardEvent says of a key. */
export interface Pressed {
  key: string;
  shiftKey: boolean;
  ctrlKey?: boolean;
  metaKey?: boolean;
  altKey?: boolean;
}

export function actOf({ key, shiftKey, ctrlKey, metaKey, altKey }: Pressed, within: 'steps' | 'page'): Act | null {
  if (altKey) return null;
  const held = Boolean(ctrlKey || metaKey);
  const all = KEYMAP.filter(({ keys, ctrl }) => keys.includes(key) && Boolean(ctrl) === held);
  const bound = (shiftKey ? all.find(({ shift }) => shift) : null) ?? all.find(({ shift }) => !shift);
  return bound && (within === 'steps' || bound.anywhere) ? bound.act : null;
}
