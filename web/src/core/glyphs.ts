/** Texts of tokens made visible, and made sayable. */

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const MARKER = /^(<\|.*\|>|<\/?[a-zA-Z_]+>|<｜.*｜>|\[\/?[A-Z_]+\])$/;
const PIECE = /^⟨[0-9A-F]{2}( [0-9A-F]{2})*⟩$/;

/** Control and direction characters by their numbers: they would act on the page instead of showing on it. */
export function visible(text: string): string {
  return text.replace(CONTROL, (c) => `⟨${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}⟩`);
}

/** Every character visible: spaces ␣, newlines ↵, tabs ⇥. */
export function glyphs(text: string): string {
  return visible(text).replaceAll(' ', '␣').replaceAll('\n', '↵').replaceAll('\t', '⇥');
}

/** For the top of a column: a leading space is drawn as a gap, so it is left out here. */
export function label(text: string): string {
  const bare = hasGap(text) ? text.slice(1) : text;
  return /^\s*$/.test(bare) ? glyphs(bare) : visible(bare).replaceAll('\n', '↵').replaceAll('\t', '⇥');
}

/** Whether a token begins a word: a space, then something else. */
export function hasGap(text: string): boolean {
  return text.length > 1 && text[0] === ' ' && text[1] !== ' ';
}

/** Whether a token is a marker or control token by its looks, such as `</think>` and `<|im_end|>`. */
export function isMarker(text: string): boolean {
  return MARKER.test(text);
}

/** Whether a token is a part of a UTF-8 character, which the server names as ⟨E2 80⟩. */
export function isPiece(text: string): boolean {
  return PIECE.test(text);
}

const WORDS: Record<string, string> = {
  ',': 'comma',
  '.': 'full stop',
  ':': 'colon',
  ';': 'semicolon',
  '!': 'exclamation mark',
  '?': 'question mark',
  '-': 'hyphen',
  '(': 'left parenthesis',
  ')': 'right parenthesis',
  '"': 'quotation mark',
  "'": 'apostrophe',
  '*': 'asterisk',
  '**': '2 asterisks',
  '#': 'hash',
  '`': 'backtick',
  '|': 'vertical bar',
  _: 'underscore',
};

/** A token in words that a screen reader says. */
export function spoken(text: string): string {
  const bare = text.trim();
  if (bare) return WORDS[bare] ?? visible(bare).replaceAll('\n', ' newline ');
  const newlines = text.split('\n').length - 1;
  if (newlines) return newlines === 1 ? 'newline' : `${newlines} newlines`;
  if (text.includes('\t')) return 'tab';
  return text.length === 0 ? 'nothing' : text.length === 1 ? 'space' : `${text.length} spaces`;
}
