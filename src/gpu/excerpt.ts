// Shows a place in a text: the line, a caret below it, and the lines around.

const around = 3;

/**
 * `line` and `column` count from 1, as in WebGPU's compilation messages; `length` is the number of characters to mark, at
 * least one is. Lines longer than 160 characters are cut around the place.
 */
export const excerpt = (text: string, line: number, column: number, length = 1): string => {
  const lines = text.split("\n");
  const first = Math.max(1, line - around);
  const last = Math.min(lines.length, line + around);
  const width = String(last).length;
  const shown: string[] = [];
  for (let n = first; n <= last; n++) {
    const start = n === line ? Math.max(0, column - 80) : 0;
    const content = (lines[n - 1] ?? "").replaceAll("\t", " ").slice(start, start + 160);
    shown.push(`${String(n).padStart(width)} | ${content}`);
    if (n !== line) continue;
    const indent = Math.max(0, column - 1 - start);
    const marks = Math.max(1, Math.min(length, content.length - indent));
    shown.push(`${" ".repeat(width)} | ${" ".repeat(indent)}${"^".repeat(marks)}`);
  }
  return shown.join("\n");
};
