// Elements, made without a word of HTML: what others named can never become markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function fill(node, facts, children) {
    for (const [name, value] of Object.entries(facts)) {
        if (value === undefined || value === null || value === false) continue;
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (name === "text") node.textContent = value;
        else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((each) => each !== null && each !== undefined));
    return node;
}

/** An HTML element with attributes (`text` is its text, `onclick` a listener) and children. */
export const make = (tag, facts = {}, ...children) =>
    fill(document.createElement(tag), facts, children);

/** The same in SVG. */
export const draw = (tag, facts = {}, ...children) =>
    fill(document.createElementNS(SVG, tag), facts, children);

/** A small button; what it is about is said only to those who cannot see where it stands. */
export function small(text, about, act) {
    return make(
        "button",
        { type: "button", class: "plain small", onclick: act },
        make("span", { text }),
        make("span", { class: "unseen", text: `: ${about}` }),
    );
}

/** Set a text, but only where it is another one: readers of the screen notice each change. */
export function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

/** Replace what an element holds. */
export const put = (node, ...children) => node.replaceChildren(...children.filter(Boolean));

/** A bar that shows how much of something there is; `words` says it to those who cannot see it. */
export function bar(part, whole, words) {
    const bar = make("progress", { max: "100", "aria-label": words });
    setBar(bar, part, whole);
    return bar;
}

export function setBar(bar, part, whole) {
    const value = whole > 0 ? Math.min(100, (100 * part) / whole) : 0;
    bar.value = value;
}

/** A table with a caption for those who hear it; rows of texts or nodes. */
export function table(caption, heads, rows) {
    const cell = (each, index) => {
        const node = make(index ? "td" : "th", index ? { "data-head": heads[index] } : { scope: "row" });
        node.append(each);
        return node;
    };
    return make(
        "table",
        {},
        make("caption", { class: "unseen", text: caption }),
        make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", text })))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
    );
}

let waiting = [];
let timer = 0;

/** Have something said to those who hear the page: together, and at most every two seconds. */
export function announce(text) {
    waiting.push(text);
    if (timer) return;
    timer = setTimeout(() => {
        byId("said").textContent = waiting.slice(-3).join(" ");
        waiting = [];
        timer = 0;
    }, 500);
}

/** Copy a text, and say on the button that it was done. */
export async function copy(text, button) {
    const words = button.firstElementChild;
    const before = words.textContent;
    let done = false;
    try {
        await navigator.clipboard.writeText(text);
        done = true;
    } catch {
        // Only where the page came over https, or from this machine: else the old way.
        const field = make("textarea", { class: "unseen", readonly: true });
        field.value = text;
        (button.closest("dialog") ?? document.body).append(field);
        field.select();
        done = document.execCommand("copy");
        field.remove();
        button.focus();
    }
    words.textContent = done ? "Copied" : "Not copied";
    announce(done ? "Digest copied." : "The digest could not be copied.");
    setTimeout(() => (words.textContent = before), 2000);
}
