// Finding files by name, and looking at those that a browser may safely show.

import { Trouble, ask, askJson, at, token } from "./access.js";
import { announce, byId, copy, make, put, say, small } from "./dom.js";
import { amount, many, moment, short } from "./format.js";

const PAGE = 10;
const TEXT_SHOWN = 64 * 1024;
/** With a token the page itself has to fetch what it shows, into memory. */
const LARGEST_FETCHED = 256 * 1024 * 1024;

let following = null;
let count = 0;
let asked = 0;
let objectUrl = "";

export function startFinding() {
    byId("find-form").addEventListener("submit", (event) => {
        event.preventDefault();
        find();
    });
    byId("more").addEventListener("click", () => find(following));
    byId("preview-close").addEventListener("click", () => byId("preview").close());
    byId("preview").addEventListener("close", emptied);
    byId("preview").addEventListener("click", (event) => {
        if (event.target === byId("preview")) byId("preview").close();
    });
}

/** Ask for names, from the beginning or from where the last page ended. */
export async function find(after = null) {
    const mine = ++asked;
    const query = new URLSearchParams({ limit: PAGE, prefix: byId("prefix").value });
    if (after) query.set("after", after);
    let told;
    try {
        told = await askJson(`files.json?${query}`);
    } catch (trouble) {
        if (mine !== asked) return;
        put(byId("found"));
        byId("more").hidden = true;
        say(byId("found-words"), trouble.message);
        return;
    }
    // Somebody has asked for something else meanwhile.
    if (mine !== asked) return;
    const rows = told.files.map(row);
    if (after) byId("found").append(...rows);
    else put(byId("found"), ...rows);
    count = (after ? count : 0) + rows.length;
    following = told.next;
    byId("more").hidden = !following;
    const none = byId("prefix").value ? "No name begins so." : "No file has been stored here yet.";
    say(byId("found-words"), count ? `${many(count, "file")}${following ? ", and there are more" : ""}` : none);
    if (after) rows[0]?.querySelector("a, button")?.focus();
}

function row(file) {
    const { name, sha512 } = file;
    const copying = small("Copy digest", name, () => copy(sha512, copying));
    const facts = [amount(file.length)];
    if (file.stored_at) facts.push(moment(file.stored_at));
    if (file.here === false) facts.push("not on this node yet");
    return make(
        "li",
        { class: "file" },
        make("div", { class: "line-up" }, make("strong", { class: "name", text: name }), make("span", { class: "quiet", text: facts.join(" · ") })),
        make(
            "div",
            { class: "row buttons" },
            make("code", { class: "digest", text: short(sha512), title: sha512 }),
            copying,
            mayBeShown(name) ? small("Preview", name, () => show(file)) : null,
            fetching(file),
        ),
    );
}

const mayBeShown = (name) =>
    byId("found").dataset.shown.split(" ").includes(name.split(".").at(-1).toLowerCase()) && name.includes(".");

const addressOf = (file, inline) =>
    `${file.sha512}?${new URLSearchParams({ name: file.name, ...(inline ? { inline: 1 } : {}) })}`;

function fetching(file) {
    if (!token()) {
        return make(
            "a",
            { class: "button plain small", href: at(addressOf(file)), download: file.name },
            make("span", { text: "Download" }),
            make("span", { class: "unseen", text: `: ${file.name}` }),
        );
    }
    // A link brings no token, so the page fetches the file, and hands it over.
    return small("Download", file.name, async () => {
        try {
            const url = URL.createObjectURL(await fetched(file));
            make("a", { href: url, download: file.name }).click();
            setTimeout(() => URL.revokeObjectURL(url), 60000);
        } catch (trouble) {
            say(byId("found-words"), `${file.name}: ${trouble.message}`);
        }
    });
}

async function fetched(file, options = {}) {
    if (file.length > LARGEST_FETCHED && !options.headers) {
        throw new Trouble(0, `more than ${amount(LARGEST_FETCHED)}: with a token, fetch it with curl`);
    }
    return (await ask(addressOf(file, true), options)).blob();
}

async function show(file) {
    const body = byId("preview-body");
    byId("preview-title").textContent = file.name;
    put(body, make("p", { class: "quiet", text: "Loading …" }));
    byId("preview").showModal();
    try {
        put(body, await look(file), make("p", { class: "row buttons" }, fetching(file)));
    } catch (trouble) {
        put(body, make("p", { class: "trouble", text: `It cannot be shown: ${trouble.message}` }));
    }
}

/** Return what shows a file. Its type is the node's to say. */
async function look(file) {
    const head = await ask(addressOf(file, true), { method: "HEAD" });
    const type = (head.headers.get("Content-Type") ?? "").split(";")[0];
    const family = type.split("/")[0];
    if (!(head.headers.get("Content-Disposition") ?? "").startsWith("inline")) {
        return make("p", { text: `Files of this kind (${type}) are not shown here.` });
    }
    if (family === "text") return text(file);
    if (!["image", "audio", "video"].includes(family)) {
        return make("p", { text: "This kind of file opens in a program of its own: download it." });
    }
    let source = at(addressOf(file, true));
    if (token()) source = objectUrl = URL.createObjectURL(await fetched(file));
    const shown =
        family === "image"
            ? make("img", { src: source, alt: file.name })
            : make(family, { src: source, controls: true, preload: "metadata", "aria-label": file.name });
    shown.addEventListener("error", () => announce(`${file.name} cannot be shown by this browser.`));
    return shown;
}

async function text(file) {
    if (!file.length) return make("p", { text: "An empty file." });
    const part = await fetched(file, { headers: { Range: `bytes=0-${TEXT_SHOWN - 1}` } });
    const pre = make("pre", { tabindex: "0", text: await part.text(), "aria-label": `Text of ${file.name}` });
    if (file.length <= TEXT_SHOWN) return pre;
    return make("div", {}, pre, make("p", { class: "quiet", text: `The first ${amount(TEXT_SHOWN)} of ${amount(file.length)}.` }));
}

function emptied() {
    // What plays must not go on unseen.
    put(byId("preview-body"));
    if (objectUrl) URL.revokeObjectURL(objectUrl);
    objectUrl = "";
}
