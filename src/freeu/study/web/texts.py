"""Texts of the pages in English and Chinese. Title, questions and prompts come from the plan."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = {"en": "English", "zh": "中文"}
TAGS = {"en": "en", "zh": "zh-Hans"}

_EN = {
    "skip": "Skip to the content",
    "demonstration": "Demonstration with simulated raters. Nothing here is evidence about people.",
    "language": "Language",
    "privacy": "Privacy",
    "link": "Switch device",
    "welcome": "You will see pairs of images. Both images of a pair were generated from the same prompt, a short text "
    "description. Choose the one that answers the question better. There are no right or wrong answers: your own "
    "judgment counts.",
    "welcome_video": "You will see pairs of short silent videos. Both videos of a pair were generated from the same "
    "prompt, a short text description. Choose the one that answers the question better. There are no right or wrong "
    "answers: your own judgment counts.",
    "length": "{total} questions, about {minutes} minutes. You can stop at any time and continue later.",
    "about": "{total} questions, about 1 minute. You can stop at any time and continue later.",
    "nickname": "Nickname (optional)",
    "nickname_help": "Only the people who run the study can see it. You can leave it empty.",
    "consent": "I take part voluntarily. My answers are stored without my name and used for research.",
    "more_privacy": "What is stored, and how to delete it",
    "start": "Start",
    "have_code": "I have a personal link or code",
    "invited_only": "This study is open only to people with a personal link. Enter the code from your link.",
    "full_title": "The study is full",
    "full": "Thank you for your interest. The planned number of people are already taking part.",
    "code": "Personal code",
    "code_help": "20 letters and digits, as in 7K3M-Q0XW-9ZTA-BC4D-EFGH",
    "resume_title": "Continue with your personal link",
    "resume": "Continue",
    "wrong_code": "This code is unknown. Check each letter and digit.",
    "your_link": "Your personal link",
    "your_link_help": "Open it on any device to continue where you stopped. Anyone who has this link can answer in "
    "your name, so do not share it.",
    "copy_link": "Copy the link",
    "copied": "Copied",
    "or_code": "Or enter this code on the other device:",
    "back_to_vote": "Back to the questions",
    "prompt": "Prompt:",
    "progress": "{done} of {total} answered",
    "left_image": "left image",
    "right_image": "right image",
    "left_video": "left video",
    "right_video": "right video",
    "left": "Left",
    "right": "Right",
    "tie": "No difference",
    "undo": "Undo the last answer",
    "zoom": "Enlarge",
    "unzoom": "Reduce",
    "pause": "Pause",
    "play": "Play",
    "shortcuts": "Keyboard shortcuts",
    "keys_help": "← left, → right, T no difference, Z enlarge, U undo",
    "keys_help_no_tie": "← left, → right, Z enlarge, U undo",
    "keys_help_video": ", P pause",
    "pair": "Pair to compare",
    "answers": "Your answer",
    "loading": "Loading …",
    "saving": "Saving …",
    "saved": "Saved.",
    "undone": "The last answer was undone.",
    "elsewhere": "This question was already answered in another window.",
    "offline": "No connection. Your answer is kept and will be sent when you are online again.",
    "media_failed": "Loading failed. Trying again …",
    "done_title": "Done. Thank you!",
    "done": "All {total} answers are stored. You can close this page.",
    "privacy_title": "What is stored",
    "privacy_1": "Your answers with their time and response time, the language, and the nickname if you chose one. No "
    "name, no e-mail address, no network address.",
    "privacy_2": "One cookie stores your session and one the language. Nothing is loaded from other sites, and "
    "nothing is sent to them.",
    "privacy_3": "Your answers are evaluated only together with those of all other participants.",
    "forget_title": "Delete my data",
    "forget": "This deletes your nickname, the time at which you started and your personal link. Your answers stay "
    "under a new random number that is not linked to you. You cannot continue afterwards.",
    "forget_button": "Delete my data",
    "forgotten_title": "Your data is deleted",
    "forgotten": "Nickname, time and personal link are deleted. Thank you for taking part.",
    "home": "Go to the start page",
    "error_title": "Something went wrong",
    "error_400": "The request could not be read. Go back and try again.",
    "error_401": "You have not started the study on this device. Start, or use your personal link.",
    "error_403": "This page has expired, or the request came from another site. Go back, reload and try again.",
    "error_404": "This page does not exist.",
    "error_405": "This request is not allowed here.",
    "error_416": "This part of the file does not exist.",
    "error_409": "This question was already answered, maybe in another window.",
    "error_422": "The form is incomplete or invalid. Go back and try again.",
    "error_429": "Too many requests. Wait a moment and try again.",
    "error_500": "An error occurred on the server. Your stored answers are safe. Try again in a moment.",
    "error_503": "The server is busy. Your stored answers are safe. Try again in a moment.",
}

_ZH = {
    "skip": "跳到正文",
    "demonstration": "演示：评分者由程序模拟。此处的结果不能作为关于真人的证据。",
    "language": "语言",
    "privacy": "隐私",
    "link": "更换设备",
    "welcome": "每次您会看到两张图片，它们由同一个提示词（一段简短的文字描述）生成。"
    "请选择更符合问题的一张。没有对错之分，请按自己的判断回答。",
    "welcome_video": "每次您会看到两段无声短视频，它们由同一个提示词（一段简短的文字描述）生成。"
    "请选择更符合问题的一段。没有对错之分，请按自己的判断回答。",
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
    "full": "感谢您的关注。参加人数已达到计划。",
    "code": "个人代码",
    "code_help": "20 位字母和数字，例如 7K3M-Q0XW-9ZTA-BC4D-EFGH",
    "resume_title": "用个人链接继续",
    "resume": "继续",
    "wrong_code": "没有这个代码。请逐位核对。",
    "your_link": "您的个人链接",
    "your_link_help": "在任何设备上打开它，即可从停下的地方继续。持有链接的人可以替您作答，请勿转给他人。",
    "copy_link": "复制链接",
    "copied": "已复制",
    "or_code": "或在另一台设备上输入此代码：",
    "back_to_vote": "返回答题",
    "prompt": "提示词：",
    "progress": "已答 {done} / {total}",
    "left_image": "左图",
    "right_image": "右图",
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
    "pair": "待比较的一对",
    "answers": "您的回答",
    "loading": "正在加载……",
    "saving": "正在保存……",
    "saved": "已保存。",
    "undone": "已撤销上一个回答。",
    "elsewhere": "此题已在另一个窗口中回答。",
    "offline": "没有网络。您的回答已保留，联网后立即发送。",
    "media_failed": "加载失败，正在重试……",
    "done_title": "已完成，谢谢！",
    "done": "全部 {total} 个回答均已保存。您可以关闭此页。",
    "privacy_title": "保存哪些信息",
    "privacy_1": "您的回答、每题用时和作答时间、语言，以及您自选的昵称。不保存姓名、邮箱和网络地址。",
    "privacy_2": "一个 Cookie 用于保存您的会话，另一个记住语言。不加载任何外部内容，也不向其他网站发送信息。",
    "privacy_3": "您的回答只与所有人的回答合并统计。",
    "forget_title": "删除我的数据",
    "forget": "这将删除您的昵称、开始时间和个人链接。"
    "您的回答会保留，但改用新的随机编号，不再与您关联；之后您不能再继续答题。",
    "forget_button": "删除我的数据",
    "forgotten_title": "您的数据已删除",
    "forgotten": "昵称、时间和个人链接均已删除。感谢您的参与。",
    "home": "回到首页",
    "error_title": "操作未成功",
    "error_400": "无法读取请求。请返回重试。",
    "error_401": "您在这台设备上尚未参加。请开始，或使用个人链接。",
    "error_403": "页面已过期，或请求来自其他网站。请返回、刷新后重试。",
    "error_404": "此页面不存在。",
    "error_405": "不允许此请求。",
    "error_416": "文件没有这一部分。",
    "error_409": "此题已经回答过，可能是在另一个窗口中。",
    "error_422": "表单不完整或无效。请返回重试。",
    "error_429": "请求太多。请稍等再试。",
    "error_500": "服务器出错。已保存的回答不受影响。请稍后再试。",
    "error_503": "服务器繁忙。已保存的回答不受影响。请稍后再试。",
}

TEXTS: Mapping[str, Mapping[str, str]] = {"en": _EN, "zh": _ZH}
SCRIPT = (
    *("loading", "saving", "saved", "undone", "elsewhere", "offline", "media_failed", "progress"),
    *("left_image", "right_image", "left_video", "right_video"),
    *("zoom", "unzoom", "pause", "play"),
)
"""Names of the texts that the script of the voting page needs."""


def negotiated(header: str, languages: tuple[str, ...]) -> str:
    """The language that an Accept-Language header prefers among ours, or the default."""
    accepted: list[tuple[float, int, str]] = []
    for index, entry in enumerate(header[:500].split(",")):
        tag, _, rest = entry.strip().partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=")) if rest else 1.0
        except ValueError:
            continue
        accepted.append((-weight, index, tag.partition("-")[0].lower()))
    return next((tag for weight, _, tag in sorted(accepted) if tag in languages and weight < 0.0), languages[0])
