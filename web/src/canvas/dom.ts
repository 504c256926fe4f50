/** Making elements. Texts of models only ever enter the page as text nodes. */

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  text: string | null = null,
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}

/** The step whose element a node lies in. */
export function stepAt(target: EventTarget | null): number | null {
  const found = target instanceof Element ? target.closest<HTMLElement>('[data-step]') : null;
  return found ? Number(found.dataset['step']) : null;
}
