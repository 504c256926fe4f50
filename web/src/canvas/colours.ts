/** The colours of the page for what is drawn outside its styles. */

/** Those of custom properties at a place of the page, resolved: readers may have set names such as CanvasText. */
export function coloursAt<T extends string>(place: Element, names: readonly T[]): Record<T, string> {
  const probe = document.createElement('i');
  probe.hidden = true;
  probe.style.forcedColorAdjust = 'none';
  (place.parentElement ?? document.body).append(probe);
  const style = getComputedStyle(probe);
  const read = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, style.color] as const;
  });
  probe.remove();
  return Object.fromEntries(read) as Record<T, string>;
}
