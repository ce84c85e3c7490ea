"""What the pages say, in English and Chinese. Questions and prompts are the plan's own."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = {"en": "English", "zh": "中文"}
TAGS = {"en": "en", "zh": "zh-Hans"}

_EN = {
    "skip": "Skip to the content",
    "demonstration": "Demonstration with simulated raters. Nothing here is evidence about people.",
    "language": "Language",
    "privacy": "Privacy",
    "link": "Continue elsewhere",
    "welcome": "You will see two images at a time, made from the same text. Each time, say which one answers the "
    "question better. There is no right or wrong: your own eye counts.",
    "welcome_video": "You will see two short silent videos at a time, made from the same text. Each time, say which "
    "one answers the question better. There is no right or wrong: your own eye counts.",
    "length": "{total} questions, about {minutes} minutes. You can stop at any time and go on later.",
    "about": "{total} questions, about 1 minute. You can stop at any time and go on later.",
    "nickname": "Nickname (optional)",
    "nickname_help": "Only the people who run the study see it. It may stay empty.",
    "consent": "I take part of my own free will. My answers are stored without my name and used for research.",
    "more_privacy": "What is stored, and how to have it deleted",
    "start": "Start",
    "have_code": "I have a personal link or code",
    "invited_only": "This study is open to people with a personal link. Enter the code from yours.",
    "full_title": "Every place is taken",
    "full": "Thank you for coming. As many people as planned are taking part already.",
    "code": "Personal code",
    "code_help": "20 letters and digits, as in 7K3M-Q0XW-9ZTA-BC4D-EFGH",
    "resume_title": "Continue with your personal link",
    "resume": "Continue",
    "wrong_code": "This code is not known. Check each letter and digit.",
    "your_link": "Your personal link",
    "your_link_help": "Open it on any device to go on where you stopped. Whoever has it can answer in your place, so "
    "keep it to yourself.",
    "copy_link": "Copy the link",
    "copied": "Copied",
    "or_code": "Or type this code there:",
    "back_to_vote": "Back to the questions",
    "prompt": "The text",
    "progress": "{done} of {total} answered",
    "left_picture": "left image",
    "right_picture": "right image",
    "left_video": "left video",
    "right_video": "right video",
    "left": "Left",
    "right": "Right",
    "tie": "No difference",
    "undo": "Undo the last answer",
    "zoom": "Enlarge",
    "unzoom": "Smaller",
    "pause": "Pause",
    "play": "Play",
    "shortcuts": "Keyboard shortcuts",
    "keys_help": "← left, → right, T no difference, Z enlarge, U undo",
    "keys_help_no_tie": "← left, → right, Z enlarge, U undo",
    "keys_help_video": ", P pause",
    "pair": "The two to compare",
    "answers": "Your answer",
    "loading": "Loading …",
    "saving": "Saving …",
    "saved": "Saved.",
    "undone": "The last answer was taken back.",
    "elsewhere": "This was answered in another window already.",
    "offline": "No connection. Your answer is kept and sent as soon as there is one.",
    "media_failed": "This could not be loaded. Trying again …",
    "done_title": "Done, thank you!",
    "done": "All {total} answers are stored. You may close this page.",
    "privacy_title": "What is stored",
    "privacy_1": "Your answers, how long each took and when it was given, the language, and the nickname if you chose "
    "one. No name, no e-mail address, no network address.",
    "privacy_2": "One cookie keeps you in the study, and one remembers the language. Nothing is loaded from elsewhere, "
    "and nobody is told.",
    "privacy_3": "Answers are counted together with those of everybody else.",
    "forget_title": "Be forgotten",
    "forget": "This deletes your nickname, the time at which you came and your personal link. Your answers stay, under "
    "a new random number that nobody can tie to you, and you cannot go on.",
    "forget_button": "Forget me",
    "forgotten_title": "You are forgotten",
    "forgotten": "Nickname, time and personal link are deleted. Thank you for the time that you gave.",
    "home": "To the first page",
    "error_title": "That did not work",
    "error_400": "The request could not be read. Go back and try again.",
    "error_401": "You are not in the study on this device. Start, or use your personal link.",
    "error_403": "This page was open for too long, or the request came from elsewhere. Go back, reload and try again.",
    "error_404": "There is no such page.",
    "error_405": "This page cannot be used like that.",
    "error_416": "There is no such part.",
    "error_409": "This was answered already, maybe in another window.",
    "error_422": "Something in the form is missing or does not fit. Go back and try again.",
    "error_429": "Too many requests. Wait a moment and try again.",
    "error_500": "Something broke on our side. Your stored answers are safe. Try again in a moment.",
    "error_503": "The study is busy. Your stored answers are safe. Try again in a moment.",
}

_ZH = {
    "skip": "跳到正文",
    "demonstration": "演示：评分者由程序模拟。此处的一切都不是关于真人的证据。",
    "language": "语言",
    "privacy": "隐私",
    "link": "换设备继续",
    "welcome": "每次您会看到由同一段文字生成的两张图片。请回答哪一张更符合问题。没有对错之分，请相信自己的眼睛。",
    "welcome_video": "每次您会看到由同一段文字生成的两段无声短视频。"
    "请回答哪一段更符合问题。没有对错之分，请相信自己的眼睛。",
    "length": "共 {total} 题，约 {minutes} 分钟。您可以随时停下，以后再继续。",
    "about": "共 {total} 题，约 1 分钟。您可以随时停下，以后再继续。",
    "nickname": "昵称（可不填）",
    "nickname_help": "只有研究人员能看到，可以留空。",
    "consent": "我自愿参加。我的回答不记名保存，并用于研究。",
    "more_privacy": "保存哪些信息，如何删除",
    "start": "开始",
    "have_code": "我有个人链接或代码",
    "invited_only": "本研究仅对持有个人链接的人开放。请输入链接中的代码。",
    "full_title": "名额已满",
    "full": "感谢您的到来。参加人数已达到计划。",
    "code": "个人代码",
    "code_help": "20 位字母和数字，例如 7K3M-Q0XW-9ZTA-BC4D-EFGH",
    "resume_title": "用个人链接继续",
    "resume": "继续",
    "wrong_code": "没有这个代码。请逐位核对。",
    "your_link": "您的个人链接",
    "your_link_help": "在任何设备上打开它，即可从停下的地方继续。持有链接的人可以替您作答，请勿转给他人。",
    "copy_link": "复制链接",
    "copied": "已复制",
    "or_code": "或在那里输入此代码：",
    "back_to_vote": "返回答题",
    "prompt": "文字",
    "progress": "已答 {done} / {total}",
    "left_picture": "左图",
    "right_picture": "右图",
    "left_video": "左侧视频",
    "right_video": "右侧视频",
    "left": "左",
    "right": "右",
    "tie": "没有差别",
    "undo": "撤销上一个回答",
    "zoom": "放大",
    "unzoom": "缩小",
    "pause": "暂停",
    "play": "播放",
    "shortcuts": "键盘快捷键",
    "keys_help": "← 左，→ 右，T 没有差别，Z 放大，U 撤销",
    "keys_help_no_tie": "← 左，→ 右，Z 放大，U 撤销",
    "keys_help_video": "，P 暂停",
    "pair": "要比较的两个",
    "answers": "您的回答",
    "loading": "正在加载……",
    "saving": "正在保存……",
    "saved": "已保存。",
    "undone": "已撤销上一个回答。",
    "elsewhere": "此题已在另一个窗口中回答。",
    "offline": "没有网络。您的回答已保留，联网后立即发送。",
    "media_failed": "加载失败，正在重试……",
    "done_title": "完成，谢谢!",
    "done": "全部 {total} 个回答均已保存。您可以关闭此页。",
    "privacy_title": "保存哪些信息",
    "privacy_1": "您的回答、每题用时和作答时间、语言，以及您自选的昵称。不保存姓名、邮箱和网络地址。",
    "privacy_2": "一个 Cookie 用于识别您的答题进度，另一个记住语言。不加载任何外部内容，也不向他人传送信息。",
    "privacy_3": "您的回答只与所有人的回答合并统计。",
    "forget_title": "删除我的信息",
    "forget": "这将删除您的昵称、到来时间和个人链接。"
    "您的回答会保留，但改用新的随机编号，无法与您对应；您也不能再继续。",
    "forget_button": "删除我的信息",
    "forgotten_title": "已删除",
    "forgotten": "昵称、时间和个人链接均已删除。感谢您付出的时间。",
    "home": "回到首页",
    "error_title": "操作未成功",
    "error_400": "无法读取请求。请返回重试。",
    "error_401": "您在这台设备上尚未参加。请开始，或使用个人链接。",
    "error_403": "页面打开太久，或请求来自别处。请返回、刷新后重试。",
    "error_404": "没有这个页面。",
    "error_405": "此页面不能这样使用。",
    "error_416": "没有这一部分。",
    "error_409": "此题已经回答过，可能是在另一个窗口中。",
    "error_422": "表单有缺漏或不合要求。请返回重试。",
    "error_429": "请求太多。请稍等再试。",
    "error_500": "我们这边出了问题。已保存的回答不受影响。请稍后再试。",
    "error_503": "系统繁忙。已保存的回答不受影响。请稍后再试。",
}

TEXTS: Mapping[str, Mapping[str, str]] = {"en": _EN, "zh": _ZH}
SCRIPT = (
    *("loading", "saving", "saved", "undone", "elsewhere", "offline", "media_failed", "progress"),
    *("left_picture", "right_picture", "left_video", "right_video"),
    *("zoom", "unzoom", "pause", "play"),
)
"""What the script on the voting page says."""


def negotiated(header: str, languages: tuple[str, ...]) -> str:
    """The first of our languages that an Accept-Language header prefers, or the default."""
    wishes: list[tuple[float, int, str]] = []
    for place, entry in enumerate(header[:500].split(",")):
        tag, _, rest = entry.strip().partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=")) if rest else 1.0
        except ValueError:
            continue
        wishes.append((-weight, place, tag.partition("-")[0].lower()))
    return next((tag for weight, _, tag in sorted(wishes) if tag in languages and weight < 0.0), languages[0])
