// @vitest-environment jsdom
import { describe, expect, it } from 'vitest';
import { toHtml } from '../src/ui/markdown.ts';

describe('the rendered answer', () => {
  it('is Markdown with maths', () => {
    expect(toHtml('**42**\n\n- a\n- b')).toContain('<strong>42</strong>');
    for (const text of ['so $20 + 10 = 30$.', '\\(x^2\\)', '$$\\frac{1}{2}$$', '\\[a_1\\]']) {
      const html = toHtml(text);
      expect(html).toContain('<math');
      expect(html).not.toMatch(/annotation|\\frac|\$/);
    }
  });

  it('leaves an unclosed formula and prices as they are', () => {
    expect(toHtml('so $20 + 10 =')).toContain('$20 + 10 =');
    expect(toHtml('it costs $5 or $6 each')).toContain('$5 or $6');
    expect(toHtml('$$ x + ')).toContain('$$ x +');
    expect(toHtml('`$a$`')).toContain('<code>$a$</code>');
  });

  it('cannot act, and fetches nothing', () => {
    const hostile = [
      '<img src=x onerror=alert(1)>',
      '![x](http://example.org/track.png)',
      '<script>alert(1)</script>',
      '<a href="javascript:alert(1)">x</a>',
      '[x](javascript:alert(1))',
      '<svg onload=alert(1)><style>*{display:none}</style></svg>',
      '<form action=/api><input name=x><button>go</button></form>',
      '<p style="position:fixed" id=app onclick=alert(1)>x</p>',
      '<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>',
      '$\\href{javascript:alert(1)}{x}$',
    ];
    for (const text of hostile) {
      const html = toHtml(text);
      expect(html, text).not.toMatch(/<(img|script|svg|style|form|input|button|iframe)|<[^>]*\s(on\w+|style|id)=|<a[^>]*href="javascript/i);
    }
  });

  it('shows raw HTML as it was written, but for words of layout', () => {
    expect(toHtml('a <b onclick=x>b</b>')).toContain('&lt;b onclick=x&gt;b');
    expect(toHtml('x<sub>1</sub><br>y')).toContain('x<sub>1</sub><br>y');
  });

  it('does not throw on broken maths', () => {
    expect(toHtml('$\\frac{1$')).toContain('frac');
  });
});
