// Devices that stand beside each other say the same of themselves: eight functions of one card, 128 virtual functions. What is made of their words is made once, and is one object.

type Word = string | number | null;

/** As make, but called again with the same words it gives the same value again. Only the last is kept. */
export function rememberLast<Words extends readonly Word[], Value>(make: (...words: Words) => Value): (...words: Words) => Value {
  let last: { readonly words: Words; readonly value: Value } | null = null;
  return (...words) => {
    if (last === null || last.words.some((word, index) => word !== words[index])) last = { words, value: make(...words) };
    return last.value;
  };
}
