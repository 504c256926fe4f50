/** Markdown with maths to safe HTML. Loaded only when Rendered is opened: this is the page's largest part. */

import DOMPurify from 'dompurify';
import katex from 'katex';
import { Marked, type TokenizerAndRendererExtension, type Tokens } from 'marked';

interface Maths extends Tokens.Generic {
  source: string;
  display: boolean;
}

// A formula must be closed; a $ before a digit or after a space, as in "$5 or $6", opens none.
const RULES: { pattern: RegExp; display: boolean }[] = [
  { pattern: /^\$\$([\s\S]+?)\$\$/, display: true },
  { pattern: /^\\\[([\s\S]+?)\\\]/, display: true },
  { pattern: /^\\\(([\s\S]+?)\\\)/, display: false },
  { pattern: /^\$(?!\s)((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)/, display: false },
];

const maths: TokenizerAndRendererExtension = {
  name: 'maths',
  level: 'inline',
  start: (text) => /\$|\\\(|\\\[/.exec(text)?.index,
  tokenizer(text): Maths | undefined {
    for (const { pattern, display } of RULES) {
      const match = pattern.exec(text);
      if (match?.[1]) return { type: 'maths', raw: match[0], source: match[1], display };
    }
    return undefined;
  },
  renderer: (token) => {
    const { source, display } = token as Maths;
    const html = katex.renderToString(source, { output: 'mathml', displayMode: display, throwOnError: false });
    return html.replace(/<annotation[\s\S]*?<\/annotation>/g, ''); // its source would be shown as text
  },
};

// Raw HTML in an answer is shown as the text that the model wrote, but for a few harmless words of layout.
const HARMLESS = /^<\/?(br|hr|p|b|i|em|strong|sub|sup|kbd|code|details|summary) ?\/?>$/i;
const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const renderer = { html: ({ text }: { text: string }): string => (HARMLESS.test(text.trim()) ? text : escaped(text)) };

const marked = new Marked({ gfm: true, breaks: false, async: false }, { extensions: [maths], renderer });

/** HTML that cannot act: no scripts, no styles, no forms, nothing that is fetched from elsewhere. */
export function toHtml(text: string): string {
  const html = marked.parse(text, { async: false });
  return DOMPurify.sanitize(html, {
    USE_PROFILES: { html: true, mathMl: true },
    FORBID_TAGS: ['img', 'picture', 'source', 'video', 'audio', 'track', 'style', 'form', 'input', 'button', 'textarea', 'select'],
    FORBID_ATTR: ['style', 'id', 'name', 'tabindex', 'background', 'autofocus'],
    ALLOW_DATA_ATTR: false,
  });
}
