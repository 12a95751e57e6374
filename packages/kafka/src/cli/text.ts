/** Bytes as text that can be shown. */

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** `undefined` where the bytes are not UTF-8. */
export const decode = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/**
 * In one line and without effect on a terminal: control characters, and those that change how others are shown, as
 * their escapes. The joiner inside of emojis stays.
 */
export const escapeLine = (text: string): string =>
  text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (character) => character === "\u200d" ? character : escapes[character] ?? escapeOf(character)
  )

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }

const escapeOf = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`
}

/** Bytes shown of what is not text. */
const shownBytes = 32

/** Text as it is, anything else as its first bytes. */
export const show = (bytes: Uint8Array): string => {
  const text = decode(bytes)
  if (text !== undefined) return escapeLine(text)
  const hex = Buffer.from(bytes.subarray(0, shownBytes)).toString("hex").replace(/..(?=.)/g, "$& ")
  const rest = bytes.length > shownBytes ? " …" : ""
  return `<${bytes.length} ${bytes.length === 1 ? "byte" : "bytes"}: ${hex}${rest}>`
}

/** `1,204`. */
export const count = (value: number | bigint): string => value.toLocaleString("en-US")

/** `1,204 records`, `1 record`. */
export const counted = (value: number | bigint, one: string, many = `${one}s`): string =>
  `${count(value)} ${BigInt(value) === 1n ? one : many}`
