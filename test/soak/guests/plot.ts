/** Curves over minutes as SVG: a small panel for each quantity, its curves in one scale that begins at 0. */

export interface Curve {
  readonly name: string;
  readonly values: readonly number[];
}

export interface Panel {
  readonly title: string;
  /** Empty: a number. */
  readonly unit: string;
  readonly curves: readonly Curve[];
}

const COLUMNS = 2;
const [WIDTH, HEIGHT] = [460, 190];
/** Around a panel's field: for title, numbers and minutes. */
const EDGE = { left: 52, right: 14, top: 30, bottom: 28 };
const FIELD = { width: WIDTH - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
const HEAD = 44;
const COLOURS = ['#1f5fa8', '#c4581b'];
const TICKS = 4;

/** @param minutes when each value was taken, as many as there are values. */
export function plot(title: string, minutes: readonly number[], panels: readonly Panel[]): string {
  const height = HEAD + Math.ceil(panels.length / COLUMNS) * HEIGHT;
  const drawn = panels.map((panel, at) => {
    const [x, y] = [(at % COLUMNS) * WIDTH, HEAD + Math.floor(at / COLUMNS) * HEIGHT];
    return `<g transform="translate(${x} ${y})">\n${panelOf(panel, minutes)}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${COLUMNS * WIDTH} ${height}" font-family="sans-serif" font-size="11" fill="#333">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="14" y="26" font-size="15">${escape(title)}</text>`,
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

function panelOf({ title, unit, curves }: Panel, minutes: readonly number[]): string {
  const top = niceAbove(Math.max(...curves.flatMap(({ values }) => values)));
  const span = niceAbove(minutes.at(-1)!);
  const x = (minute: number) => (EDGE.left + (minute / span) * FIELD.width).toFixed(1);
  const y = (value: number) => (EDGE.top + (1 - value / top) * FIELD.height).toFixed(1);
  const ticks = Array.from({ length: TICKS + 1 }, (_, i) => i / TICKS);
  const right = WIDTH - EDGE.right;
  const names = curves.map(({ name }, i) => `<tspan fill="${COLOURS[i]}" dx="10">${escape(name)}</tspan>`);
  return [
    `<text x="${EDGE.left}" y="20">${escape(unit === '' ? title : `${title}, ${unit}`)}${names.join('')}</text>`,
    ...ticks.map(
      (part) =>
        `<path d="M${EDGE.left} ${y(part * top)}H${right}" stroke="#ddd"/>` +
        `<text x="${EDGE.left - 6}" y="${y(part * top)}" dy="4" text-anchor="end">${numberOf(part * top)}</text>`,
    ),
    ...ticks.map(
      (part) =>
        `<text x="${x(part * span)}" y="${HEIGHT - EDGE.bottom + 15}" text-anchor="${part === 1 ? 'end' : 'middle'}">${numberOf(part * span)}${part === 1 ? ' min' : ''}</text>`,
    ),
    ...curves.map(({ values }, i) => {
      const points = values.map((value, at) => `${x(minutes[at]!)},${y(value)}`).join(' ');
      return `<polyline points="${points}" fill="none" stroke="${COLOURS[i]}" stroke-width="1.2"/>`;
    }),
  ].join('\n');
}

/** The least of 1, 2, 4, 6, 8 × 10ⁿ that isn't below: four equal parts of it are short numbers. */
export function niceAbove(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((digit) => digit * power).find((nice) => nice >= value * (1 - 1e-9))!;
}

const numberOf = (value: number): string => String(Number(value.toPrecision(3)));
const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
